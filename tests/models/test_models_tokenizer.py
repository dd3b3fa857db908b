"""Tokenizers against the authors' own; special words are plain text; tokens know their place in the text."""

from __future__ import annotations

import numpy as np
import open_clip
import pytest
import torch
from hub_clip import clip_tokenizer
from hypothesis import assume, example, given
from hypothesis import strategies as st
from open_clip.tokenizer import SimpleTokenizer
from openclip_folder import write_siglip

import clipbias
from clipbias.errors import NotApplicable
from clipbias.models.ids import EOT
from clipbias.models.tokenizer import ClipTokens, clip_token_lists

REFERENCE = SimpleTokenizer()
PARTS = st.sampled_from(
    ["A dog", "the ‘Bow’", "“PUMPKIN”", "it's", "we'll", "\n", "\r\n", "\t", "  ", "12.5", "&amp;", "&quot", "<b>",
     "1st", "naïve", "â€™", "\u00a0", "…", "—", "\x1b[1m", "\x00", "ﬁn", "？", "Ünï", "'S", "_x_", "ΟΔΟΣ", "e\u0301"]
)  # fmt: skip
TEXTS = st.one_of(st.text(max_size=60), st.lists(PARTS, max_size=12).map("".join), st.lists(PARTS).map(" ".join))
SPECIAL = ("<start_of_text>", "<end_of_text>", "<|startoftext|>", "<|endoftext|>")


@given(TEXTS)
@example("The “Z”.\nIt’s ‘here’")
@example("Schloß &lt;b&gt; \u2019\u2019")
def test_ids_are_those_of_open_clip(text):
    assume(not any(word in REFERENCE.clean_fn(text) for word in SPECIAL))
    assert clip_token_lists([text]) == [tuple(REFERENCE.encode(text))]


# Characters that one library's tables know and another's do not yet are left out.
ASSIGNED = st.text(st.characters(exclude_categories=["Cn", "Co", "Cs"]), max_size=60)


@given(st.one_of(ASSIGNED, st.lists(PARTS).map(" ".join)))
@example("The “Z”.\nIt’s ‘here’ &amp; ﬁn ΟΔΟΣ")
def test_hugging_faces_cleaning_gives_transformers_ids(text):
    assume(not any(word in text.lower() for word in SPECIAL))
    want = clip_tokenizer()([text], padding="max_length", truncation=True, max_length=77, return_tensors="pt").input_ids
    assert torch.equal(ClipTokens(77, "huggingface")([text]), want)


@pytest.mark.parametrize("word", SPECIAL)
@pytest.mark.parametrize("cleaning", ["openai", "huggingface"])
def test_a_special_word_in_a_caption_cuts_nothing(word, cleaning):
    tokens = ClipTokens(77, cleaning)
    ids = tokens([f"a dog {word} beside a tree"])[0]
    end = (ids == EOT).nonzero()[0].item()
    assert end == tokens.lengths([f"a dog {word} beside a tree"])[0] - 1
    tail = tokens.ids(["beside a tree"])[0]
    assert tuple(ids[end - len(tail) : end].tolist()) == tail


@given(st.lists(st.sampled_from(["A dog", "it's", "naïve", "12.5", "Tree,", "—", "“Big”"]), min_size=1, max_size=10))
def test_a_token_knows_its_place_in_the_text(words):
    text = "  ".join(words)
    (ids,), (spans,) = clip_token_lists([text]), ClipTokens(77).spans([text])
    assert spans.shape == (len(ids), 2)
    assert (np.diff(spans[:, 0]) >= 0).all() and (spans[:, 0] < spans[:, 1]).all()
    clean = REFERENCE.clean_fn
    for number, (start, end) in zip(ids, spans, strict=True):
        part = REFERENCE.decoder[number].removesuffix("</w>")
        shown = bytearray(REFERENCE.byte_decoder[c] for c in part).decode("utf-8", errors="ignore")
        assert shown in clean(text[start:end])


@given(TEXTS)
def test_places_lie_inside_any_text(text):
    for cleaning in ("openai", "huggingface"):
        tokens = ClipTokens(77, cleaning)
        (ids,), (spans,) = tokens.ids([text]), tokens.spans([text])
        assert len(spans) == len(ids)
        assert ((spans >= 0) & (spans <= len(text))).all()


@pytest.fixture(scope="module", params=["</s>", "<pad>"])
def siglip(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("siglip")
    write_siglip(folder, ["A dog sits on a bench.", "Two birds over a lake, and a cat."], pad=request.param)
    return clipbias.load_model(str(folder)).tokens, open_clip.get_tokenizer(f"local-dir:{folder}")


@given(text=TEXTS)
@example(text="a dog " * 60)
def test_a_hub_tokenizers_rows_are_open_clips(siglip, text):
    ours, theirs = siglip
    assume(not any(word in text for word in ("</s>", "<pad>", "<unk>")))
    assert torch.equal(ours([text]), theirs([text], context_length=64))


def test_a_special_word_is_plain_text_for_hub_tokenizers_too(siglip):
    ours, _ = siglip
    row = ours(["a dog </s> on a bench"])[0].tolist()
    # canonicalised to "a dog s on a bench"; one end of text, behind the text
    length = int(ours.lengths(["a dog </s> on a bench"])[0])
    assert row[length - 1] == 1 and 1 not in row[: length - 1]


def test_hub_tokens_know_their_place(siglip):
    ours, _ = siglip
    text = "A dog - sits;  on THE bench."
    (spans,) = ours.spans([text])
    assert len(spans) == len(ours.ids([text])[0])
    found = "".join(sorted({text[a:b].lower() for a, b in spans}))
    assert "-" not in found and (np.diff(spans[:, 0]) >= 0).all()
    at = next(i for i, (a, _) in enumerate(spans) if text[a:].startswith("sits"))
    assert text[spans[at][0] :].startswith("sits")


def test_pads_stand_before_the_text_and_never_push_it_out():
    tokens = ClipTokens(10)
    ids = tokens.ids(["a dog on a bench"])
    row = tokens.pack(ids, pads=3)[0].tolist()
    assert row[1:4] == [0, 0, 0] and tuple(row[4:9]) == ids[0][:5] and row[9] == EOT
    assert tokens.pack(ids, pads=7)[0].tolist()[-2:] == [ids[0][0], EOT]
    with pytest.raises(NotApplicable, match="8 pads"):
        tokens.pack(ids, pads=8)
