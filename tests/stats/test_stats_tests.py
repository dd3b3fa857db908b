"""Sign flips against McNemar and every flip, Holm and Page against statsmodels and scipy, rank sets by simulation."""

from __future__ import annotations

from itertools import product
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from clipbias.stats.ranksets import rank_sets, rank_text
from clipbias.stats.tests import _fair_coins, holm, sign_flip
from clipbias.stats.trend import page


@pytest.mark.parametrize("count", [0, 1, 2, 7, 100, 999, 5000])
def test_fair_coins_are_scipys(count):
    expected = stats.binom.pmf(np.arange(count + 1), count, 0.5)
    likely = expected > 1e-290
    np.testing.assert_allclose(_fair_coins(count)[likely], expected[likely], rtol=1e-11)
    assert _fair_coins(count)[~likely].max(initial=0.0) <= 1e-290


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 60), st.integers(0, 60))
def test_with_one_query_an_image_it_is_mcnemars_exact_test(won, lost):
    values = np.concatenate([np.ones(won), -np.ones(lost), np.zeros(30)])
    expected = stats.binomtest(won, won + lost).pvalue if won + lost else 1.0
    assert sign_flip(values, np.arange(len(values))) == pytest.approx(expected, rel=1e-9)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([-1, -0.5, 0, 1 / 3, 1]), st.integers(0, 6)), min_size=1, max_size=25))
def test_it_is_every_flip_of_the_clusters(queries):
    values, cluster = np.array([v for v, _ in queries]), np.array([c for _, c in queries])
    sums = np.array([values[cluster == c].sum() for c in np.unique(cluster)])
    flipped = np.array([np.dot(signs, sums) for signs in product((-1, 1), repeat=len(sums))])
    assert sign_flip(values, cluster) == pytest.approx(np.mean(np.abs(flipped) >= abs(sums.sum()) - 1e-9), abs=1e-12)


def test_sampled_flips_are_near_the_exact_ones():
    generator = np.random.default_rng(0)
    values = generator.normal(0.3, 1, 14)
    flipped = np.array([np.dot(signs, values) for signs in product((-1, 1), repeat=14)])
    assert sign_flip(values) == pytest.approx(np.mean(np.abs(flipped) >= abs(values.sum()) - 1e-12), abs=0.005)
    assert sign_flip(values) == sign_flip(values)


def test_the_level_holds_with_five_captions_an_image():
    generator = np.random.default_rng(1)
    cluster = np.repeat(np.arange(200), 5)
    flips = plain = 0
    for _ in range(1000):
        shift = np.repeat(generator.normal(0, 1, (2, 200)), 5, axis=1)
        x, y = (shift + generator.normal(0, 0.5, (2, 1000))) > 0
        change = y.astype(float) - x
        flips += sign_flip(change, cluster) < 0.05
        plain += sign_flip(change) < 0.05
    assert 0.035 <= flips / 1000 <= 0.065  # 5%, two standard errors
    assert plain > 200  # what taking captions as independent would do


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_statsmodels(values):
    with mock.patch("gc.collect"):  # statsmodels' first act, half a second in a process that holds a lot
        theirs = multipletests(values, method="holm")[1].tolist()
    assert holm(values) == pytest.approx(theirs)


def test_page_without_ties_is_scipys_and_ties_take_from_the_variance():
    generator = np.random.default_rng(0)
    values = generator.normal(size=(80, 5)) + 0.1 * np.arange(5)
    found, theirs = page(values), stats.page_trend_test(values, method="asymptotic")
    assert found is not None and found.z > 0
    assert found.p == pytest.approx(2 * theirs.pvalue)
    assert page(np.ones((40, 5))) is None
    hits = (generator.random((200, 5)) < 0.8).astype(float)
    tied = page(hits)
    ranks = stats.rankdata(hits, axis=1)
    shuffled = [(generator.permuted(ranks, axis=1) @ np.arange(5)).sum() for _ in range(4000)]
    expected = ((ranks @ np.arange(5)).sum() - np.mean(shuffled)) / np.std(shuffled)
    assert tied is not None and tied.z == pytest.approx(expected, abs=0.1)


def test_pages_level_holds_over_clusters():
    generator = np.random.default_rng(2)
    cluster, below = np.repeat(np.arange(100), 5), 0
    for _ in range(600):
        hits = (np.repeat(generator.normal(size=(100, 5)), 5, axis=0) + generator.normal(size=(500, 5))) > 0
        found = page(hits.astype(float), cluster)
        below += found is not None and found.p < 0.05
    assert 0.03 <= below / 600 <= 0.07


def test_rank_sets_hold_all_true_ranks_and_part_what_is_apart():
    generator = np.random.default_rng(3)
    shares = np.array([0.9, 0.7, 0.7, 0.5])
    missed = 0
    for _ in range(200):
        hits = (generator.random((500, 4)) < shares).astype(float)
        sets = rank_sets(hits)
        assert sets[0] == (1, 1) and sets[3] == (4, 4)
        missed += sets[1:3] != [(2, 3), (2, 3)]
    assert missed <= 18  # 5% of 200, and 2.6 standard errors


def test_models_that_are_the_same_or_hardly_differ_share_all_ranks():
    hits = np.ones((300, 3))
    hits[0, 2] = 0
    assert rank_sets(hits) == [(1, 3)] * 3
    assert rank_sets(np.repeat(hits, 5, axis=0), np.repeat(np.arange(300), 5)) == [(1, 3)] * 3
    assert rank_sets(hits[:, :1]) == [(1, 1)]
    assert (rank_text(1, 3), rank_text(2, 2)) == ("1-3", "2")
