"""Attention of the pooled query against the whole matrices of a plain forward pass."""

from __future__ import annotations

import copy
import re

import numpy as np
import open_clip
import plain_clip as plain
import pytest
import torch

import clipbias
from clipbias.data.build import without_images
from clipbias.data.loading import load_dataset
from clipbias.errors import UserError
from clipbias.models.libraries.openclip_tower import gradient_times_input, pooled_attention, rollout
from clipbias.models.tokenizer import ClipTokens
from clipbias.probe.kinds.influence import leave_one_out
from clipbias.probe.kinds.needle import half_depth, needle_captions
from clipbias.probe.measure import token_shares
from clipbias.probe.positions import by_sentence, sentence_of_tokens, shares
from clipbias.probe.run import run_probe
from clipbias.probe.session import Session
from clipbias.probe.spec import find_probes
from clipbias.results.folder import read_queries, read_rows
from clipbias.scenes.world import GROUND_COLOURS

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
    with pytest.raises(UserError, match="ones: nothing is known of its text tower"):
        run_probe(session, find_probes("attention")[0], tmp_path)


@pytest.mark.parametrize("name", ["scenes", "scenes-2"])
def test_needle_captions_differ_in_one_word_at_the_place_asked_for(name):
    data = clipbias.load_dataset(name)
    for index in range(60):
        place, false = data.told_wrong[index]
        for k in range(1, 9):
            both = needle_captions(data.sentences[index], place, false, k, ("Filler.",))
            if both is None:
                continue
            right, wrong = (text.split(" ") for text in both)
            assert sorted(both[0].removeprefix("Filler. ")) == sorted(data.captions[index])
            changed = [(a, b) for a, b in zip(right, wrong, strict=True) if a != b]
            colours = [word.strip(".") for word in changed[0]]
            assert len(changed) == 1 and colours[0] != colours[1] and set(colours) <= set(GROUND_COLOURS)
            before = " ".join(right[: [a != b for a, b in zip(right, wrong, strict=True)].index(True)])
            assert before.count(". ") == k  # the filler and k - 1 sentences end before it


def test_needle_counts_ties_as_half_and_perfect_readers_as_right(tmp_path):
    rows = read_rows(run_probe(_session(40), find_probes("needle")[0], tmp_path))
    accuracy = [row.value for row in rows if (row.metric, row.condition) == ("needle_accuracy", "fillers-0")]
    assert len(accuracy) == 8 and min(accuracy) > 0.8
    (depth,) = (row for row in rows if (row.metric, row.condition) == ("needle_half_depth", "fillers-0"))
    assert depth.value == half_depth(np.array([accuracy]))[0] and depth.low <= depth.value <= depth.high
    session = _session(12)
    session.encoder = clipbias.load_model("nano-clip")
    rows = read_rows(run_probe(session, find_probes("needle")[0], tmp_path))
    found = {(r.metric, r.condition, r.x): r.value for r in rows}
    # Behind three fillers the eighth sentence lies beyond 77 tokens: both captions are cut to the same.
    assert found["needle_accuracy", "fillers-3", 8.0] == 0.5 and found["needle_cut", "fillers-3", 8.0] == 1
    assert found["needle_cut", "fillers-0", 1.0] == 0


def test_needle_takes_any_data_that_know_a_fact_and_only_these(tmp_path):
    from dataclasses import replace

    session = _session(6)
    data = session.dataset
    session.dataset = replace(data, name="mine", told_wrong=[None, *data.told_wrong[1:3], None, None, None])
    rows = read_rows(run_probe(session, find_probes("needle")[0], tmp_path))
    assert {row.n for row in rows if row.metric == "needle_accuracy" and row.x == 1} == {2}
    session.dataset = replace(data, name="mine", told_wrong=[None] * 6)
    with pytest.raises(UserError, match="no fact is known of its first 300 captions"):
        run_probe(session, find_probes("needle")[0], tmp_path / "none")
    session.dataset = replace(data, name="mine", told_wrong=None)
    with pytest.raises(UserError, match="use --data scenes or scenes-2, not mine"):
        run_probe(session, find_probes("needle")[0], tmp_path / "other")


def test_half_depth_by_hand():
    table = np.array(
        [
            [1.0, 1.0, 1.0, 1.0],  # never falls: the last place
            [1.0, 0.75, 0.5, 0.5],  # half at the second place
            [0.9, 0.8, 0.6, 0.5],  # 0.4 above chance; 0.2 is halfway between 0.3 and 0.1
            [0.5, 0.9, 0.9, 0.9],  # nothing is read in the first sentence
        ]
    )
    assert half_depth(table) == pytest.approx([4, 2, 2.5, 0])


def test_rollout_is_the_product_of_the_whole_matrices(tmp_path):
    state = plain.random_state()
    torch.save(state, tmp_path / "a.pt")
    encoder = clipbias.load_model(str(tmp_path / "a.pt"))
    ids = encoder.tokenize(TEXTS)
    found = rollout(encoder.module.text, ids)
    for row, weights in zip(ids.tolist(), found, strict=True):
        end = row.index(49_407)
        # Every position's attention in every layer, from one query at a time.
        layers = torch.stack([_reference(state, row, 2, q, True).mean(1) for q in range(end + 1)], dim=1)
        one, two = ((a[:, : end + 1] + torch.eye(end + 1)) / 2 for a in layers)
        torch.testing.assert_close(weights[: end + 1], (two @ one)[end], atol=1e-5, rtol=0)
        assert (weights[end + 1 :] == 0).all()


def test_influence_is_what_leaving_out_and_moving_an_embedding_change(tmp_path):
    encoder = clipbias.load_model("nano-debias")
    session = _session(2)
    image = session.images()[0]
    caption = session.dataset.captions[0]
    ids = encoder.tokenize([caption])
    end = ids[0].tolist().index(49_407)
    tokens = ids[0, 1:end].tolist()
    found = leave_one_out(encoder.text_tower(), tokens, image)
    for i in (0, 7, len(tokens) - 1):
        cut = [49_406, *tokens[:i], *tokens[i + 1 :], 49_407]
        without = encoder.encode_token_ids(torch.tensor([cut + [0] * (248 - len(cut))]))
        expected = float((encoder.encode_texts([caption]) @ image - without @ image)[0])
        assert found[i] == pytest.approx(expected, abs=1e-5)
    tower = encoder.module.text
    gradient = gradient_times_input(tower, ids, image[None])[0]
    # Central differences along the embedding of one position, in double precision.
    double = copy.deepcopy(tower).double()
    step = 1e-4
    for place in (1, 9, end):
        cosines = []
        for factor in (1 + step, 1 - step):
            scale = torch.ones(1, ids.shape[1], 1, dtype=torch.double)
            scale[0, place] = factor
            handle = double.token_embedding.register_forward_hook(lambda m, i, out, scale=scale: out * scale)
            cosines.append(float(torch.nn.functional.normalize(double(ids), dim=-1) @ image.double()))
            handle.remove()
        assert float(gradient[place]) == pytest.approx((cosines[0] - cosines[1]) / (2 * step), abs=1e-4)
    assert (gradient[end + 1 :].abs() < 1e-7).all()


def test_the_influence_probe_keeps_what_leaving_out_each_token_does(tmp_path):
    session = _session(6)
    folder = run_probe(session, find_probes("influence")[0], tmp_path)
    queries = read_queries(folder)
    tower, images = session.encoder.text_tower(), session.images()
    assert sorted(queries["query"].unique()) == list(range(6)) and not queries["eligible"].any()
    for query, mine in queries.groupby("query"):
        caption = " ".join(session.sentences[query])
        own = int(session.dataset.caption_image[query])
        tokens = tower.tokens.ids([caption])[0][: len(mine) - 1]
        change = mine["cosine"].iloc[0] - mine["cosine"].iloc[1:].to_numpy()
        np.testing.assert_allclose(change, leave_one_out(tower, tokens, images[own]), atol=1e-6)
        numbers = [re.fullmatch(r"without token (\d+) \((\d+)-(\d+)\)", name) for name in mine["condition"].iloc[1:]]
        words = "".join(caption[int(m[2]) : int(m[3])] for m in numbers)
        assert words == caption.replace(" ", "")[: len(words)] and [int(m[1]) for m in numbers] == [
            *range(1, len(mine))
        ]
        # The fourth token left out, ranked with no help.
        feature = tower.features(tower.tokens.pack([tokens[:3] + tokens[4:]]))[0]
        order = (images @ feature).argsort(descending=True).tolist()
        line = mine.iloc[4]
        assert line["better"] == order.index(own)
        assert line["leader"] == (-1 if order[0] == own else order[0])


def test_the_influence_probe_reports_shares_that_sum_to_one(tmp_path):
    rows = read_rows(run_probe(_session(6), find_probes("influence")[0], tmp_path))
    for name in ("influence", "gradient"):
        tenths = [r.value for r in rows if r.metric == f"{name}_by_tenth"]
        assert len(tenths) == 10 and sum(tenths) == pytest.approx(1)
        (first,) = (r.value for r in rows if r.metric == f"first_sentence_{name}")
        assert 0 < first < 1


def test_curves_by_sentence_are_apart_by_their_number_and_sum_to_one():
    generator = np.random.default_rng(0)
    owners = [np.repeat(np.arange(count), 3) for count in [2] * 12 + [4] * 11 + [5] * 9 + [14] * 20]
    weights = [shares(generator.random(len(owner))) for owner in owners]
    found = by_sentence(weights, owners)
    assert {count: len(numbers) for count, (numbers, _) in found.items()} == {2: 12, 4: 11}
    for count, (numbers, curve) in found.items():
        assert curve.shape == (len(numbers), count) and curve.sum(axis=1) == pytest.approx(np.ones(len(numbers)))
        assert curve[0, 0] == pytest.approx(weights[numbers[0]][:3].sum())
    assert by_sentence(token_shares(owners), owners)[4][1] == pytest.approx(np.full((11, 4), 0.25))
