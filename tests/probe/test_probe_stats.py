"""Intervals against scipy's bootstrap, McNemar's level by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from clipbias.stats.bootstrap import ClusterBootstrap, mcnemar_exact, percentile_interval


def test_with_a_query_a_cluster_the_interval_is_scipys_percentile_bootstrap():
    values = np.random.default_rng(0).exponential(size=300)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=9_999, method="percentile", rng=1).confidence_interval
    sampled = ClusterBootstrap(np.arange(300), 0).means(values[:, None], np.ones(300, dtype=bool))
    low, high = percentile_interval(sampled)
    # Monte Carlo error of a quantile of 2,000 resamples is about 4% of the interval's width.
    assert (low[0], high[0]) == pytest.approx(tuple(theirs), abs=0.06 * (theirs.high - theirs.low))


def test_a_paired_difference_is_scipys():
    generator = np.random.default_rng(1)
    first = generator.random(400) < 0.6
    second = first ^ (generator.random(400) < 0.1)
    values = np.column_stack([first, second]).astype(float)
    sampled = ClusterBootstrap(np.arange(400), 0).means(values, np.ones(400, dtype=bool))
    low, high = percentile_interval(sampled[:, 1:] - sampled[:, :1])
    theirs = stats.bootstrap(
        (values[:, 1], values[:, 0]), lambda a, b, axis: a.mean(axis) - b.mean(axis), paired=True, n_resamples=9_999,
        method="percentile", rng=1,
    ).confidence_interval  # fmt: skip
    assert (low[0], high[0]) == pytest.approx(tuple(theirs), abs=0.07 * (theirs.high - theirs.low))


def test_mcnemar_keeps_its_level_and_is_the_binomial_test():
    generator = np.random.default_rng(4)
    refused = 0
    for _ in range(500):
        first, second = generator.random((2, 120)) < 0.5
        p = mcnemar_exact(first, second)
        gained, lost = int((second & ~first).sum()), int((first & ~second).sum())
        assert p == pytest.approx(stats.binomtest(gained, gained + lost).pvalue)
        refused += p < 0.05
    assert refused <= 36  # exact tests are conservative: at most 5% of 500, plus two standard deviations
