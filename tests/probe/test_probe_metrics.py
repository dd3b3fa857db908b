"""Ranks against a slow, obvious reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata

from clipbias.errors import UserError
from clipbias.probe.ranking import leaders, per_query_metrics, rank_both

Line = tuple[int, int, int, float, float]


def line(own: list[float], others: list[float]) -> Line:
    """(better, equal, right, cosine, margin) of one query, by the definition."""
    best = max(own)
    better, equal = sum(o > best for o in others), sum(o == best for o in others)
    return better, equal, own.count(best), best, min(best - max(others, default=-np.inf), 2)


def reference(texts: np.ndarray, images: np.ndarray, owner: np.ndarray) -> dict[str, list[Line]]:
    """The line of every query, from the whole matrix."""
    similarity = texts @ images.T
    out: dict[str, list[Line]] = {"t2i": [], "i2t": []}
    for c, image in enumerate(owner):
        others = [similarity[c, i] for i in range(len(images)) if i != image]
        out["t2i"].append(line([similarity[c, image]], others))
    for i in range(len(images)):
        own, others = (
            [similarity[c, i] for c in range(len(texts)) if (owner[c] == i) == mine] for mine in (True, False)
        )
        out["i2t"].append(line(own, others))
    return out


@st.composite
def problems(draw):
    """Small integer features: products are exact, ties and duplicates are common."""
    images, extra, width = draw(st.integers(1, 7)), draw(st.integers(0, 9)), draw(st.integers(1, 3))
    seed = draw(st.integers(0, 2**32 - 1))
    generator = np.random.default_rng(seed)
    owner = np.concatenate([np.arange(images), generator.integers(0, images, extra)])
    generator.shuffle(owner)
    values = generator.integers(-1, 2, (images + len(owner), width)).astype(np.float32)
    return values[images:], values[:images], owner, draw(st.sampled_from([1, 2, 3, 64]))


@settings(max_examples=300, deadline=None)
@given(problems())
def test_counts_cosines_and_margins_are_the_definition(problem):
    texts, images, owner, block = problem
    found = rank_both(torch.from_numpy(texts), torch.from_numpy(images), owner, block=block)
    for direction, expected in reference(texts, images, owner).items():
        ranking = found[direction]
        assert list(zip(*ranking.counts, ranking.cosine, ranking.margin, strict=True)) == expected


@settings(max_examples=100, deadline=None)
@given(problems())
def test_leaders_are_best_among_the_others_of_captions_whose_image_is_not_first(problem):
    texts, images, owner, _ = problem
    pair = torch.from_numpy(texts), torch.from_numpy(images)
    rows = np.arange(len(texts))[::-1].copy()  # caption c has the text of row U - 1 - c
    missed = np.flatnonzero(rank_both(*pair, owner, rows)["t2i"].better > 0)
    found = leaders(*pair, owner, rows, missed)
    for caption, image in enumerate(owner):
        similarity = texts[rows[caption]] @ images.T
        if similarity[image] == similarity.max():
            assert found[caption] == -1
        else:
            assert found[caption] != image and similarity[found[caption]] == similarity.max()


@settings(max_examples=100, deadline=None)
@given(problems())
def test_ranks_of_one_caption_an_image_are_scipys(problem):
    texts, images, _, block = problem
    texts = texts[: len(images)]
    similarity = texts.astype(int) @ images.astype(int).T
    found = rank_both(torch.from_numpy(texts), torch.from_numpy(images), np.arange(len(images)), block=block)
    # method="average": the expected rank of those that tie.
    for direction, matrix in (("t2i", similarity), ("i2t", similarity.T)):
        expected = rankdata(-matrix, method="average", axis=1).diagonal()
        assert per_query_metrics(found[direction])["mean_rank"].tolist() == expected.tolist()


def test_blocks_of_any_size_give_the_same_ranks_on_real_valued_features():
    generator = torch.Generator().manual_seed(0)
    images = torch.nn.functional.normalize(torch.randn(57, 33, generator=generator), dim=1)
    owner = np.random.default_rng(0).permutation(np.concatenate([np.arange(57), np.arange(57), np.arange(20)]))
    texts = torch.nn.functional.normalize(images[owner] + 0.8 * torch.randn(len(owner), 33, generator=generator), dim=1)
    expected = reference(texts.double().numpy(), images.double().numpy(), owner)
    for block in (1, 7, 16, 1000):
        found = rank_both(texts, images, owner, block=block)
        for direction in found:
            better, _, _, cosine, margin = zip(*expected[direction], strict=True)
            assert found[direction].better.tolist() == list(better)
            assert not found[direction].equal.any() and (found[direction].right == 1).all()
            np.testing.assert_allclose(found[direction].cosine, cosine, atol=1e-6)
            np.testing.assert_allclose(found[direction].margin, margin, atol=1e-6)


@pytest.mark.parametrize("block", [3, 64, 2048])
def test_a_constant_encoder_finds_what_guessing_finds(block):
    # An odd width and size, so that rounding at the edges of a product's tiles would show.
    texts = torch.nn.functional.normalize(torch.randn(1, 131), dim=1).expand(203, -1).contiguous()
    owner = np.arange(203) % 101
    images = torch.nn.functional.normalize(torch.randn(1, 131), dim=1).expand(101, -1).contiguous()
    found = rank_both(texts, images, owner, block=block)
    own = np.bincount(owner)
    for direction, equal, right in (("t2i", 100, np.ones(203)), ("i2t", 203 - own, own)):
        assert (found[direction].better == 0).all() and (found[direction].equal == equal).all()
        assert (found[direction].right == right).all()
    assert per_query_metrics(found["t2i"])["recall@5"] == pytest.approx(np.full(203, 5 / 101))
    assert per_query_metrics(found["i2t"])["recall@1"] == pytest.approx(own / 203)
    assert (found["t2i"].margin == 0).all()


def test_captions_that_share_a_text_tie_exactly():
    texts = torch.nn.functional.normalize(torch.randn(4, 65), dim=1)
    images = torch.nn.functional.normalize(torch.randn(40, 65), dim=1)
    row = np.arange(40) % 4
    found = rank_both(texts, images, np.arange(40), caption_row=row, block=16)
    whole = rank_both(texts[row], images, np.arange(40), block=16)
    for direction in found:
        assert [c.tolist() for c in found[direction].counts] == [c.tolist() for c in whole[direction].counts]
    # An image's own text is also that of nine others: it comes first once in ten orders.
    assert (found["i2t"].equal == 9).all() and per_query_metrics(found["i2t"])["recall@1"].max() == pytest.approx(0.1)


def test_negative_zero_ties_with_zero():
    found = rank_both(torch.tensor([[1.0, 0.0]] * 2), torch.tensor([[1.0, 0.0], [1.0, -0.0]]), np.arange(2))
    assert found["t2i"].equal.tolist() == [1, 1]


def test_one_pair_ranks_first_with_the_whole_range_as_margin():
    found = rank_both(torch.tensor([[-1.0]]), torch.tensor([[1.0]]), np.array([0]))
    for ranking in found.values():
        assert (ranking.better.tolist(), ranking.cosine.tolist(), ranking.margin.tolist()) == ([0], [-1.0], [2.0])


def test_recall_at_more_than_there_are_candidates_is_certain():
    found = rank_both(torch.eye(3), torch.roll(torch.eye(3), 1, 0), np.arange(3))
    metrics = per_query_metrics(found["t2i"])
    assert metrics["recall@5"].tolist() == [1, 1, 1]
    assert metrics["recall@1"].tolist() == [0, 0, 0]
    assert metrics["mrr"] == pytest.approx([(1 / 2 + 1 / 3) / 2] * 3)  # second or third, as the other two are equal


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("side", ["text", "image"])
def test_features_that_are_no_numbers_are_refused(value, side):
    good, bad = torch.eye(2), torch.tensor([[1.0, value], [0.0, 1.0]])
    with pytest.raises(UserError, match=f"{side} features hold NaN or infinite"):
        rank_both(bad if side == "text" else good, bad if side == "image" else good, np.arange(2))


def test_an_image_without_a_caption_is_refused():
    with pytest.raises(UserError, match="image 1 has no caption"):
        rank_both(torch.eye(2), torch.eye(2), np.array([0, 0]))
