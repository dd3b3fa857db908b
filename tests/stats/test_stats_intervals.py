"""Intervals against scipy, statsmodels, brute force and simulation."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from clipbias.stats.intervals import difference, mean, proportion, ratio, resampled


@pytest.mark.parametrize(("hits", "n"), [(0, 7), (1, 100), (37, 100), (999, 1000), (1000, 1000), (4998, 5000)])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_a_recall_of_independent_queries_is_clopper_pearson(hits, n, level):
    values = np.arange(n) < hits
    found = proportion(values.astype(float), level=level)
    theirs = proportion_confint(hits, n, alpha=1 - level, method="beta")
    scipys = stats.binomtest(hits, n).proportion_ci(level, method="exact")
    assert (found.low, found.high) == pytest.approx(theirs, abs=1e-9)
    assert (found.low, found.high) == pytest.approx((scipys.low, scipys.high), abs=1e-9)
    assert found == pytest.approx(
        proportion(values.astype(float), np.arange(n) * 3 % 1013 if n < 1013 else None, level)
    )


def test_captions_that_are_copies_count_as_the_images_they_belong_to():
    generator = np.random.default_rng(0)
    one = (generator.random(400) < 0.8).astype(float)
    copied, alone = proportion(np.repeat(one, 5), np.repeat(np.arange(400), 5)), proportion(one)
    # The t correction and the prior weight of one failing cluster make it a little wider, never narrower.
    assert 1.0 <= (copied.high - copied.low) / (alone.high - alone.low) < 1.02


def test_no_miss_in_clusters_bounds_the_share_of_clusters():
    found = proportion(np.ones(500), np.repeat(np.arange(100), 5))
    assert found.high == 1 and found.low == pytest.approx(0.025 ** (1 / 100), abs=0.002)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.sampled_from([1.0, 2.0]))
def test_ends_enclose_the_value_mirror_and_grow_with_the_level(seed, n, bound):
    generator = np.random.default_rng(seed)
    values = generator.choice([-1, -0.5, 0, 0, 0.5, 1], n) * bound
    cluster = generator.integers(0, max(1, n // 2), n)
    found, mirrored = difference(values, cluster, bound), difference(-values, cluster, bound)
    assert -bound <= found.low <= found.value <= found.high <= bound and found.low < found.high
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low))
    wider = difference(values, cluster, bound, 0.99)
    assert wider.low <= found.low and wider.high >= found.high
    credits = np.abs(values) / bound
    one, other = proportion(credits, cluster), proportion(1 - credits, cluster)
    assert 0 <= one.low <= one.value <= one.high <= 1
    assert (one.low, one.high) == pytest.approx((1 - other.high, 1 - other.low), abs=1e-9)


def test_identical_pairs_have_an_interval_and_large_counts_the_normal_one():
    same = difference(np.zeros(1000))
    assert same.value == 0 and same.high == -same.low == pytest.approx(3.68 / 1000, rel=0.01)
    generator = np.random.default_rng(0)
    values = generator.choice([-1.0, 0.0, 1.0], 20_000, p=[0.2, 0.5, 0.3])
    found, normal = difference(values), stats.norm.interval(0.95, values.mean(), values.std() / np.sqrt(20_000))
    assert (found.low, found.high) == pytest.approx(normal, abs=3e-4)


def test_an_interval_and_mcnemars_exact_test_agree():
    for won in (3, 4, 6, 7, 8):  # at 5 both stand at the border
        values = np.zeros(1000)
        values[:won] = 1
        assert (difference(values).low > 0) == (stats.binomtest(won, won).pvalue < 0.05)


def test_a_ratio_is_fiellers_in_large_samples():
    generator = np.random.default_rng(3)
    full = (generator.random(5000) < 0.6).astype(float)
    less = np.where(generator.random(5000) < 0.3, 0.0, full)
    found = ratio(less, full)
    x, y = full.mean(), less.mean()
    (vx, cxy), (_, vy) = np.cov(full, less) / 5000
    z2 = stats.norm.ppf(0.975) ** 2
    roots = np.roots([x * x - z2 * vx, -2 * (x * y - z2 * cxy), y * y - z2 * vy])
    assert (found.low, found.high) == pytest.approx(tuple(sorted(roots)), abs=2e-3)
    assert found.value == pytest.approx(y / x)
    assert ratio(np.zeros(50), np.ones(50)).low == 0
    with pytest.raises(ValueError, match="denominator"):
        ratio(full, np.zeros(5000))


def test_a_mean_of_symmetric_values_is_students_and_of_skewed_ones_the_studentised_bootstraps():
    generator = np.random.default_rng(5)
    values = generator.normal(0.3, 0.1, 400)
    found = mean(np.concatenate([values, 0.6 - values]))
    t = stats.t.interval(0.95, 799, 0.3, stats.sem(np.concatenate([values, 0.6 - values])))
    assert found is not None and (found.low, found.high) == pytest.approx(t, abs=1e-6)
    skewed = np.exp(generator.normal(size=300))
    found = mean(skewed)
    assert found is not None
    drawn = skewed[generator.integers(0, 300, (20_000, 300))]
    t_values = (drawn.mean(axis=1) - skewed.mean()) / (drawn.std(axis=1, ddof=1) / np.sqrt(300))
    ends = skewed.mean() - np.quantile(t_values, [0.975, 0.025]) * skewed.std(ddof=1) / np.sqrt(300)
    assert (found.low, found.high) == pytest.approx(tuple(ends), abs=0.1 * (ends[1] - ends[0]))


def test_equal_values_have_no_interval_of_a_mean():
    assert mean(np.full(50, 0.3)) is None and mean(np.array([1.0, 2.0]), np.array([4, 4])) is None


def test_resampling_in_blocks_is_the_plain_bootstrap():
    generator = np.random.default_rng(0)
    values = generator.exponential(size=(300, 1))
    found = resampled(lambda means: means[:, 0], values, np.arange(300), 0)
    theirs = stats.bootstrap((values[:, 0],), np.mean, n_resamples=9_999, method="percentile", rng=1)
    low, high = theirs.confidence_interval
    # Monte Carlo error of a quantile of 2,000 resamples is about 4% of the interval's width.
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.06 * (high - low))
    holes = np.column_stack([values[:, 0], np.where(generator.random(300) < 0.5, np.nan, 2.0)])
    assert resampled(lambda means: means[:, 1], holes, np.arange(300) // 3, 0) == (2.0, 2.0, 2.0)


@pytest.mark.parametrize("share", [0.5, 0.99, 0.9995])
@pytest.mark.parametrize("size", [1, 5])
def test_coverage_at_the_edges(share, size):
    generator = np.random.default_rng(7)
    cluster = np.repeat(np.arange(1000 // size), size)
    recall = change = 0
    for _ in range(400):
        own = generator.random(1000 // size) < share
        x = np.where(generator.random(1000) < 0.5, own[cluster], generator.random(1000) < share).astype(float)
        y = np.where(generator.random(1000) < 0.9, x, generator.random(1000) < share).astype(float)
        one, two = proportion(x, cluster), difference(y - x, cluster)
        recall += one.low <= share <= one.high
        change += two.low <= 0 <= two.high
    assert min(recall, change) >= 0.92 * 400  # 95% less three standard errors of 400 trials


def test_a_million_images_fit():
    generator = np.random.default_rng(0)
    values = (generator.random(1_000_000) < 0.7).astype(float)
    cluster = np.arange(1_000_000)
    tracemalloc.start()
    found, change, cosine = (
        proportion(values, cluster),
        difference(values - 0.5, cluster),
        mean(values + cluster, cluster),
    )
    assert tracemalloc.get_traced_memory()[1] < 256 * 2**20
    tracemalloc.stop()
    assert found.high - found.low < 0.002 and change.high - change.low < 0.004 and cosine is not None
