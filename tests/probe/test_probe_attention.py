"""Attention of the pooled query against the whole matrices of a plain forward pass."""

from __future__ import annotations

import numpy as np
import open_clip
import plain_clip as plain
import pytest
import torch

import clipbias
from clipbias.data.build import without_images
from clipbias.data.loading import load_dataset
from clipbias.errors import UserError
from clipbias.models.tokenizer import ClipTokens
from clipbias.probe.attention import pooled_attention, sentence_of_tokens
from clipbias.probe.needle import needle_captions
from clipbias.probe.runner import Session, run_probe
from clipbias.probe.spec import find_probes
from clipbias.results import read_rows
from clipbias.scenes import sample_scene

TEXTS = ["a dog", "A large red circle under a blue sky. The circle is striped.", "cat " * 90]


def _reference(state: plain.State, ids: list[int], layers: int, query: int, causal: bool) -> torch.Tensor:
    """Weights [layers, H, L] of one query: each block's input from the plain pass, its matrix from the formula."""
    x = state["token_embedding.weight"][torch.tensor(ids)] + state["positional_embedding"][: len(ids)]
    out = []
    for i in range(layers):
        block = f"transformer.resblocks.{i}"
        weights, _ = plain.attention_weights(x, state, block, x.shape[-1] // 64, causal)
        out.append(weights[:, query])
        one = {f"t.resblocks.0.{k.split('.', 3)[3]}": v for k, v in state.items() if k.startswith(f"{block}.")}
        x = plain._blocks(x, one, "t", causal)
    return torch.stack(out)


def test_causal_towers_look_from_eot_as_the_formula_says(tmp_path):
    state = plain.random_state()
    torch.save(state, tmp_path / "a.pt")
    encoder = clipbias.load_model(str(tmp_path / "a.pt"))
    ids = encoder.tokenize(TEXTS)
    found = pooled_attention(encoder.module.text, ids)
    torch.testing.assert_close(found.sum(-1), torch.ones(found.shape[:-1]))
    for row, weights in zip(ids.tolist(), found, strict=True):
        end = row.index(49_407)
        torch.testing.assert_close(weights, _reference(state, row, 2, end, True), atol=1e-5, rtol=0)
        assert (weights[..., end + 1 :] == 0).all()


@torch.no_grad()
def test_towers_pooled_at_the_last_position_look_from_there_at_everything():
    state = plain.random_state(context=20)
    tower = open_clip.transformer.TextTransformer(
        context_length=20, vocab_size=49_408, width=128, heads=2, layers=2, no_causal_mask=True, pool_type="last",
        act_layer=open_clip.transformer.QuickGELU, output_dim=32,
    ).eval()  # fmt: skip
    keys = ("transformer.", "token_embedding.", "positional_embedding", "ln_final.", "text_projection")
    tower.load_state_dict({k: v for k, v in state.items() if k.startswith(keys)})
    ids = ClipTokens(20)(TEXTS)
    found = pooled_attention(tower, ids)
    torch.testing.assert_close(found.sum(-1), torch.ones(found.shape[:-1]))
    for row, weights in zip(ids.tolist(), found, strict=True):
        torch.testing.assert_close(weights, _reference(state, row, 2, 19, False), atol=1e-5, rtol=0)


def test_tokens_belong_to_the_sentence_that_they_come_from():
    tokens = ClipTokens(16)
    sentences = ["A dog barks.", "It is 3.5 m tall, isn't it?", "End."]
    found = sentence_of_tokens(tokens, sentences)
    whole = tokens([" ".join(sentences)])[0].tolist()
    parts = [i for k, s in enumerate(sentences) for i in [k] * (int(tokens.lengths([s])[0]) - 2)]
    assert found.tolist() == parts[:14] and whole.index(49_407) - 1 == len(found)


def _session(count: int) -> Session:
    return Session(clipbias.load_model("nano-debias"), without_images(load_dataset("scenes"), range(count, 1000)))


def test_the_probes_rows_are_the_means_of_what_single_captions_give(tmp_path):
    session = _session(12)
    rows = read_rows(run_probe(session, find_probes("attention")[0], tmp_path))
    value = {(r.condition, r.metric, r.x): r.value for r in rows}
    first, sot, tokens = [], [], []
    for caption, sentences in zip(session.dataset.captions, session.sentences, strict=True):
        ids = session.encoder.tokenize([caption])
        end = ids[0].tolist().index(49_407)
        weights = pooled_attention(session.encoder.module.text, ids)[0].mean(1)[0].double().numpy()  # layer 1
        length = int(session.encoder.token_lengths([sentences[0]])[0]) - 2
        first.append(weights[1 : 1 + length].sum() / weights[1:end].sum())
        sot.append(weights[0])
        tokens.append(length / (end - 1))
    assert value["layer-1", "first_sentence_attention", 1.0] == pytest.approx(np.mean(first), abs=1e-6)
    assert value["layer-1", "sot_attention", 1.0] == pytest.approx(np.mean(sot), abs=1e-6)
    assert value["all", "first_sentence_tokens", None] == pytest.approx(np.mean(tokens), abs=1e-6)
    tenths = [v for (c, m, _), v in value.items() if (c, m) == ("all", "attention_by_tenth")]
    assert len(tenths) == 10 and sum(tenths) == pytest.approx(1)


def test_a_model_without_a_known_tower_is_refused(tmp_path):
    class Ones:
        def encode_texts(self, texts):
            return np.ones((len(texts), 2))

        encode_images = encode_texts

    from clipbias.models.wrapped import WrappedEncoder

    session = _session(3)
    session.encoder = WrappedEncoder(Ones(), "ones", torch.device("cpu"), "fp32")
    with pytest.raises(UserError, match="ones: attention by position needs"):
        run_probe(session, find_probes("attention")[0], tmp_path)


def test_needle_captions_differ_in_one_word_at_the_place_asked_for():
    for index in range(60):
        scene = sample_scene("test", index)
        for k in range(1, 9):
            both = needle_captions(scene, k, ("Filler.",))
            if both is None:
                continue
            right, wrong = (text.split(" ") for text in both)
            changed = [(a, b) for a, b in zip(right, wrong, strict=True) if a != b]
            assert len(changed) == 1 and changed[0][0].strip(".") == scene.ground_colour != changed[0][1].strip(".")
            before = " ".join(right[: [a != b for a, b in zip(right, wrong, strict=True)].index(True)])
            assert before.count(". ") == k  # the filler and k - 1 sentences end before it


def test_needle_counts_ties_as_misses_and_perfect_readers_as_right(tmp_path):
    rows = read_rows(run_probe(_session(40), find_probes("needle")[0], tmp_path))
    assert {row.metric for row in rows} == {"needle_accuracy"}
    assert all(row.value > 0.8 for row in rows if row.condition == "fillers-0")
    session = _session(40)
    session.encoder = clipbias.load_model("nano-clip")
    cut = {(r.condition, r.x): r.value for r in read_rows(run_probe(session, find_probes("needle")[0], tmp_path))}
    # Behind three fillers the eighth sentence lies beyond 77 tokens: both captions are cut to the same.
    assert cut["fillers-3", 8.0] == 0.0


def test_needle_needs_the_scenes(tmp_path):
    from dataclasses import replace

    session = _session(3)
    session.dataset = replace(session.dataset, name="mine")
    with pytest.raises(UserError, match="use --data scenes, not mine"):
        run_probe(session, find_probes("needle")[0], tmp_path)
