"""The pieces of the recipes against the formulas of the papers, worked out independently."""

from __future__ import annotations

import math
import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import plain_clip as plain
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clipbias.errors import UserError
from clipbias.finetune.batches import _order, batch_indices
from clipbias.finetune.captions import debias_sentences, prefix_length, sample_stream, text_before_first_stop
from clipbias.finetune.losses import info_nce, pca_reconstruct
from clipbias.finetune.model import TrainModel
from clipbias.finetune.positions import stretch_positions
from clipbias.finetune.recipe import Recipe, read_recipe
from clipbias.finetune.recipes import DEBIAS, LONGCLIP
from clipbias.models.build import ClipShape, build_clip
from clipbias.models.ids import EOT, PAD, SOT
from clipbias.models.towers import text_features


def test_stretched_positions_are_the_papers_formula_row_by_row():
    old = torch.randn(77, 5, dtype=torch.float64)
    new = stretch_positions(old)
    assert new.shape == (248, 5)
    for i in range(20):
        assert torch.equal(new[i], old[i])
    for i in range(56):
        for j in range(4):
            torch.testing.assert_close(new[20 + 4 * i + j], ((4 - j) * old[20 + i] + j * old[21 + i]) / 4)
    for j in range(4):
        torch.testing.assert_close(new[244 + j], old[76] + j * (old[76] - old[75]) / 4)


@settings(max_examples=50, deadline=None)
@given(st.integers(3, 40), st.integers(0, 20), st.integers(1, 6))
def test_a_straight_line_stays_one_and_old_rows_are_kept(rows, keep, factor):
    keep = min(keep, rows - 2)
    old = torch.arange(rows, dtype=torch.float64)[:, None] * 3 + 1
    new = stretch_positions(old, keep, factor)
    assert len(new) == factor * rows - (factor - 1) * keep
    assert torch.equal(new[keep::factor], old[keep:])
    tail = new[keep:, 0]
    torch.testing.assert_close(tail.diff(), torch.full((len(tail) - 1,), 3 / factor, dtype=torch.float64))


def test_too_few_positions_cannot_be_stretched():
    with pytest.raises(ValueError, match="cannot keep 9 of 10"):
        stretch_positions(torch.zeros(10, 2), keep=9)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.text("abc ", min_size=1), min_size=1, max_size=9), st.integers(0, 10**6), st.booleans(), st.booleans()
)
def test_debias_sentences_are_some_of_the_rest_each_at_most_once(sentences, seed, drop, sample):
    chosen = debias_sentences(sentences, random.Random(seed), drop, sample)
    allowed = sentences[1:] if drop and len(sentences) > 1 else sentences
    assert 1 <= len(chosen) <= len(allowed)
    left = list(allowed)
    for sentence in chosen:
        left.remove(sentence)
    if not sample:
        assert chosen == allowed


def test_the_number_of_sentences_and_of_pads_is_uniform_and_orders_vary():
    from scipy.stats import chisquare

    sentences = [str(i) for i in range(6)]
    streams = [sample_stream(0, 0, i) for i in range(6000)]
    drawn = [debias_sentences(sentences, stream) for stream in streams]
    assert chisquare(np.bincount([len(d) for d in drawn], minlength=6)[1:]).pvalue > 1e-3
    whole = [tuple(d) for d in drawn if len(d) == 5]
    assert len(set(whole)) > 100  # of 120 orders
    pads = [prefix_length(240, 248, stream) for stream in streams]
    assert set(pads) == set(range(9)) and chisquare(np.bincount(pads)).pvalue > 1e-3


def test_a_sample_depends_on_seed_epoch_and_index_alone():
    draws = {key: sample_stream(*key).random() for key in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))}
    assert len(set(draws.values())) == 4
    assert all(sample_stream(*key).random() == value for key, value in draws.items())


def test_longclips_short_caption_is_the_text_before_the_first_stop():
    assert text_before_first_stop("A dog. It barks. Loudly.") == "A dog"
    # Newlines are spaces before the caption is cut, as in Long-CLIP's public code.
    assert text_before_first_stop("A 3.5 m dog\nIt barks.") == "A 3.5 m dog It barks."
    assert text_before_first_stop("A cat sits.\n\nIn the back, a dog. End.") == "A cat sits"


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 40), st.integers(0, 10**6))
def test_every_epoch_sees_every_sample_at_most_once(batches, seed):
    count = 4 * batches + 3
    seen = [batch_indices(count, 4, seed, step) for step in range(2 * batches)]
    for epoch in (0, 1):
        indices = np.concatenate([rows for number, rows in seen if number == epoch])
        assert len(indices) == 4 * batches == len(set(indices.tolist())) and indices.max() < count


def test_an_epoch_is_shuffled_once_whoever_asks(monkeypatch):
    shuffled, made = [], np.random.Generator.permutation

    class Noted(np.random.Generator):
        def permutation(self, count):
            shuffled.append(count)
            return made(self, count)

    wanted = [batch_indices(1001, 100, 5, step)[1].tolist() for step in range(30)]
    _order.cache_clear()
    monkeypatch.setattr("clipbias.finetune.batches.np.random.Generator", Noted)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda step: batch_indices(1001, 100, 5, step)[1].tolist(), range(30)))
    assert found == wanted and shuffled == [1001] * 3
    with pytest.raises(ValueError, match="read-only"):
        batch_indices(1001, 100, 5, 0)[1][0] = 1


def plain_info_nce(image: np.ndarray, text: np.ndarray, scale: float, smoothing: float) -> float:
    """The loss as a double loop over the definition."""
    count = len(image)
    total = 0.0
    for rows, columns in ((image, text), (text, image)):
        for i in range(count):
            logits = [scale * float(rows[i] @ columns[j]) for j in range(count)]
            top = max(logits)
            norm = top + math.log(sum(math.exp(value - top) for value in logits))
            for j in range(count):
                target = (1 - smoothing) * (i == j) + smoothing / count
                total -= target * (logits[j] - norm) / count / 2
    return total


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_info_nce_is_the_definition(smoothing):
    image, text = (torch.nn.functional.normalize(torch.randn(7, 5, dtype=torch.float64), dim=1) for _ in range(2))
    found = info_nce(image, text, torch.tensor(20.0), smoothing).item()
    assert found == pytest.approx(plain_info_nce(image.numpy(), text.numpy(), 20.0, smoothing), abs=1e-5)


def test_principal_components_are_those_of_the_svd():
    x = torch.randn(40, 16)
    u, s, v = np.linalg.svd((x - x.mean(0)).numpy(), full_matrices=False)
    want = x.mean(0).numpy() + (u[:, :5] * s[:5]) @ v[:5]
    np.testing.assert_allclose(pca_reconstruct(x, 5).numpy(), want, atol=1e-5)
    assert torch.equal(pca_reconstruct(x, 16), x) and torch.equal(pca_reconstruct(x[:4], 3), x[:4])


def test_the_gradient_of_the_reconstruction_is_right_and_finite_where_svds_is_not():
    x = torch.randn(12, 6, dtype=torch.float64)
    weight = torch.randn(12, 6, dtype=torch.float64)

    def value(point: torch.Tensor) -> float:
        u, s, v = torch.linalg.svd(point - point.mean(0), full_matrices=False)
        return float((weight * (point.mean(0) + (u[:, :2] * s[:2]) @ v[:2])).sum())

    numeric = torch.zeros_like(x)
    for i in range(12):
        for j in range(6):
            step = torch.zeros_like(x)
            step[i, j] = 1e-5
            numeric[i, j] = (value(x + step) - value(x - step)) / 2e-5
    leaf = x.float().requires_grad_()
    (weight.float() * pca_reconstruct(leaf, 2)).sum().backward()
    torch.testing.assert_close(leaf.grad, numeric.float(), atol=1e-3, rtol=1e-3)
    # Equal singular values make the derivative of an SVD divide by zero.
    same = torch.eye(8)[:, :6].clone().requires_grad_()
    pca_reconstruct(same, 2).sum().backward()
    assert bool(torch.isfinite(same.grad).all())


SMALL = ClipShape(32, 16, 8, 64, 1, 64, 2, 77)


def small_model(context: int = 248) -> TrainModel:
    from clipbias.finetune.runs import stretched_model

    torch.manual_seed(0)
    clip = build_clip(SMALL)
    with torch.no_grad():
        clip.text.positional_embedding.normal_(std=0.3)
    return stretched_model(clip, DEBIAS.override(context_length=context))


def test_no_parameter_is_added_beyond_longclips_second_table():
    model = small_model()
    own = sum(p.numel() for p in build_clip(SMALL).parameters())
    # Two tables of 248 rows instead of one of 77.
    assert sum(p.numel() for p in model.parameters()) == own + (2 * 248 - 77) * 64
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert "clip.text.positional_embedding" not in trained and "positional_embedding_res" in trained


def test_only_positions_from_20_on_are_trained():
    model = small_model()
    ids = torch.full((2, 248), PAD)
    ids[:, 0], ids[:, 1:60], ids[:, 60] = SOT, 320, EOT
    model.encode_text(ids).square().sum().backward()
    model.encode_text(ids)[:, 0].sum().backward()
    gradient = model.positional_embedding_res.grad
    assert (gradient[:20] == 0).all() and (gradient[20:61].abs().sum(1) > 0).all() and (gradient[61:] == 0).all()
    assert model.clip.text.positional_embedding.grad is None


@torch.no_grad()
def test_padding_before_the_text_is_that_of_really_shifted_ids():
    model = small_model()
    torch.nn.init.normal_(model.clip.text.token_embedding.weight, std=0.3)
    state = {k.removeprefix("text."): v for k, v in model.clip.state_dict().items()}
    rows, lengths, pads = [], (3, 30, 100), (0, 17, 146)
    ids = torch.full((3, 248), PAD)
    for row, (length, n_pre) in enumerate(zip(lengths, pads, strict=True)):
        text = torch.randint(300, 4000, (length,)).tolist()
        ids[row, : length + 2] = torch.tensor([SOT, *text, EOT])
        shifted = [SOT, *[PAD] * n_pre, *text, EOT]
        assert len(shifted) <= 248 and shifted.count(EOT) == 1 and [t for t in shifted if t != PAD] == [SOT, *text, EOT]
        rows.append(plain.text_feature(state, shifted))
    found = torch.nn.functional.normalize(text_features(model.clip.text, ids, n_pre=torch.tensor(pads)), dim=1)
    torch.testing.assert_close(found, torch.stack(rows), atol=1e-5, rtol=0)


def test_the_recipes_differ_in_what_the_paper_says():
    assert (DEBIAS.weight_long, DEBIAS.weight_short, DEBIAS.pca_dim, DEBIAS.batch_size, DEBIAS.epochs) == (
        0.9,
        0.1,
        32,
        256,
        3,
    )
    assert (LONGCLIP.weight_long, LONGCLIP.weight_short, LONGCLIP.short_rule) == (1.0, 1.0, "first-stop")


@pytest.mark.parametrize(
    ("text", "message"),
    [("lr = ", "not a readable recipe"), ("speed = 1", "no setting 'speed'"), ("batch_size = 1.5", "whole number"),
     ('precision = "fp8"', "fp8"), ("lr = -1.0", "must be positive"), ("drop_summary = 1", "true or false")],
)  # fmt: skip
def test_a_recipe_with_a_mistake_is_one_line_that_names_it(tmp_path, text, message):
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        read_recipe(tmp_path / "r.toml", DEBIAS)
    assert "r.toml" in str(caught.value) and "\n" not in str(caught.value)


def test_a_recipe_comes_back_from_its_own_text(tmp_path):
    recipe = DEBIAS.override(lr="3e-4", steps="7", drop_summary="false")
    (tmp_path / "r.toml").write_text(recipe.to_toml())
    assert read_recipe(tmp_path / "r.toml", Recipe(name="x", objective="clip")) == recipe
