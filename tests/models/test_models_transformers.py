"""transformers' models: ids, features, attention and gradients are the library's own, on a small model of each kind."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hub_models import KINDS, WORDS, write_hub_folder
from odd_inputs import SPECIAL, odd_captions, odd_images

import clipbias
from clipbias.errors import UserError

TEXTS = [*WORDS, "a dog sits on a bench. " * 20, "", *odd_captions()]


@pytest.fixture(scope="module", params=KINDS)
def pair(request, tmp_path_factory):
    """The encoder of a folder, and the library's model, tokenizer and image processor of the same folder."""
    from transformers import AutoImageProcessor, AutoTokenizer

    folder = tmp_path_factory.mktemp(request.param)
    model = write_hub_folder(request.param, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return clipbias.load_model(str(folder)), model, tokenizer, AutoImageProcessor.from_pretrained(folder)


def _their_ids(encoder, tokenizer):
    texts = [text.lower() for text in TEXTS] if encoder.options["lower"] == "true" else TEXTS
    return tokenizer(
        texts, padding="max_length", truncation=True, max_length=encoder.context_length, padding_side="right",
        return_tensors="pt",
    )  # fmt: skip


def test_ids_are_the_librarys(pair):
    encoder, _, tokenizer, _ = pair
    theirs = _their_ids(encoder, tokenizer).input_ids
    found = encoder.tokenize(TEXTS)
    for text, ours, want in zip(TEXTS, found, theirs, strict=True):
        assert torch.equal(ours, want), text


def test_special_words_are_plain_text(pair):
    encoder, _, tokenizer, _ = pair
    for text, row in zip(SPECIAL, encoder.tokenize(SPECIAL).tolist(), strict=True):
        length = int(encoder.token_lengths([text])[0])
        body = row[encoder.tokens.text_start : length - 1]
        known = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
        assert not known & set(body), text
        assert row[length - 1] == tokenizer.eos_token_id


@torch.no_grad()
def test_text_features_are_the_librarys(pair):
    encoder, model, tokenizer, _ = pair
    theirs = _their_ids(encoder, tokenizer)
    # SigLIP's models are called with their pads in sight.
    masked = {} if encoder.family.startswith("siglip") else {"attention_mask": theirs.attention_mask}
    want = torch.nn.functional.normalize(model.get_text_features(theirs.input_ids, **masked).pooler_output, dim=-1)
    torch.testing.assert_close(encoder.encode_texts(TEXTS), want, atol=1e-5, rtol=0)
    assert encoder.trims == (not encoder.family.startswith("siglip"))


@torch.no_grad()
def test_image_features_are_the_librarys(pair):
    encoder, model, _, processor = pair
    images = odd_images()
    found = encoder.encode_images(images)
    for image, ours in zip(images, found, strict=True):
        made = processor(images=image.convert("RGB"), return_tensors="pt")
        want = torch.nn.functional.normalize(model.get_image_features(**made).pooler_output, dim=-1)
        torch.testing.assert_close(ours, want[0], atol=1e-5, rtol=0, msg=str(image))


def test_attention_is_the_pooled_positions_row_of_the_librarys_matrices(pair):
    encoder, model, _, _ = pair
    tower = encoder.text_tower()
    ids = encoder.tokenize(WORDS[:2])
    found = tower.attention(ids)
    torch.testing.assert_close(found.weights.sum(-1), torch.ones(found.weights.shape[:-1]))
    torch.testing.assert_close(found.rollout.sum(-1), torch.ones(len(ids)))
    # The position is right if, of the last hidden states, changing that one alone changes the feature.
    model.set_attn_implementation("eager")
    mask = (ids != encoder.tokens.pad).long()
    more = {"attention_mask": mask} if encoder.family in ("altclip", "chinese_clip") else {}
    output = model.get_text_features(ids, output_attentions=True, **more)
    expected = {"siglip": ids.shape[1] - 1, "siglip2": ids.shape[1] - 1, "altclip": 0, "chinese_clip": 0}
    for row in range(len(ids)):
        end = int(encoder.token_lengths([WORDS[row]])[0]) - 1
        at = expected.get(encoder.family, end)
        assert int(found.query[row]) == at
        for layer, weights in enumerate(output.attentions):
            width = found.weights.shape[-1]
            torch.testing.assert_close(found.weights[row, layer], weights[row, :, at, :width], atol=1e-5, rtol=0)


def test_gradients_are_central_differences(pair):
    encoder, model, _, _ = pair
    tower = encoder.text_tower()
    ids = encoder.tokenize(WORDS[:1])
    image = encoder.encode_images(odd_images()[:1])
    found = tower.gradients(ids, image)[0]
    table = model.text_model.get_input_embeddings()
    model.double()
    place, step = encoder.tokens.text_start, 1e-4
    mask = {"attention_mask": (ids != encoder.tokens.pad).long()}
    more = mask if encoder.family in ("altclip", "chinese_clip") else {}
    cosines = []
    for factor in (1 + step, 1 - step):
        scale = torch.ones(1, ids.shape[1], 1, dtype=torch.double)
        scale[0, place] = factor
        handle = table.register_forward_hook(lambda m, i, out, scale=scale: out * scale)
        feature = model.get_text_features(ids, **more).pooler_output
        cosines.append(float(torch.nn.functional.normalize(feature, dim=-1)[0] @ image[0].double()))
        handle.remove()
    model.float()
    assert float(found[place]) == pytest.approx((cosines[0] - cosines[1]) / (2 * step), abs=5e-4)


def test_tokens_know_their_place(pair):
    encoder, *_ = pair
    for text in WORDS:
        (ids,), (spans,) = encoder.tokens.ids([text]), encoder.tokens.spans([text])
        assert len(ids) == len(spans)
        assert (np.diff(spans[:, 0]) >= 0).all() and ((spans >= 0) & (spans <= len(text))).all()


def test_reading_and_texts_too_long_say_nothing(tmp_path, capfd):
    write_hub_folder("clip", tmp_path)
    capfd.readouterr()
    encoder = clipbias.load_model(str(tmp_path), device="cpu")
    encoder.encode_texts(["a dog " * 100])
    assert encoder.token_lengths(["a dog " * 100])[0] > encoder.context_length
    assert capfd.readouterr() == ("", "")


def test_a_vocabulary_is_read_once_for_all_identities(pair, monkeypatch):
    from clipbias.models.libraries import tokens

    encoder, *_ = pair
    known = encoder.identity()
    monkeypatch.setattr(tokens, "digest", lambda *parts: pytest.fail("read again"))
    assert encoder.identity() == known


def test_an_unknown_kind_code_and_missing_weights_are_refused(tmp_path):
    write_hub_folder("clip", tmp_path)
    path = tmp_path / "config.json"
    good = json.loads(path.read_text())
    for change, word in (
        ({"auto_map": {"AutoModel": "evil.Evil"}}, "auto_map"),
        ({"model_type": "timm_wrapper"}, "model_type"),
        ({"text_config": {**good["text_config"], "num_hidden_layers": 10**7}}, "num_hidden_layers"),
        ({"text_config": {**good["text_config"], "hidden_size": 4096, "intermediate_size": 60_000}}, "weights hold"),
        ({"text_config": {**good["text_config"], "hidden_act": {"a": 1}}}, "hidden_act"),
    ):
        path.write_text(json.dumps(good | change))
        with pytest.raises(UserError, match=word):
            clipbias.load_model(str(tmp_path))
    path.write_text(json.dumps(good | {"attn_implementation": "owner/kernel", "_attn_implementation": "owner/kernel"}))
    assert clipbias.load_model(str(tmp_path)).module.config._attn_implementation == "sdpa"
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(UserError, match="without weights"):
        clipbias.load_model(str(tmp_path))


@pytest.mark.parametrize("name", ["openai/clip-vit-base-patch32", "google/siglip-base-patch16-224"])
def test_a_hub_name_gets_the_right_suggestion(name):
    with pytest.raises(UserError, match=f"hf:{name}.*openclip:hf-hub:{name}"):
        clipbias.load_model(name)
