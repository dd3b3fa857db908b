"""Intervals at 95%: one way for each kind of number.

- mean of credits in 0..1 (recall, 1 / rank): `proportion`; Clopper-Pearson, over clusters Korn and Graubard (1998);
- mean of paired differences of credits: `difference`; MOVER (Zou and Donner 2008) of mean gain and mean loss;
- ratio of two means of paired credits: `ratio`; Fieller (1954): ratios whose residual `difference` may be 0;
- mean of anything else (cosine, rank, share): `mean`; Hall's (1992) transformed t over clusters;
- any other function of means: `resampled`; percentile bootstrap over clusters, in blocks.

A cluster is an image with all its captions: the unit that is independent. All but the last are closed forms of the
clusters' sums; memory grows with the queries, not with resamples.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import betaincinv, stdtrit

from clipbias.stats.clusters import numbered, totals

LEVEL = 0.95
METHODS = {
    "proportion": "Clopper-Pearson, over images Korn-Graubard",
    "difference": "MOVER of gains and losses, over images",
    "ratio": "Fieller by MOVER of gains and losses, over images",
    "mean": "Hall's transformed t over images",
    "resampled": "percentile bootstrap over images, 2000 resamples",
}
"""Function -> its method in words, as results name it."""
RESAMPLES = 2000
_PRIOR = 0.2
"""Weight of one cluster that fails as a whole in the estimate of a design effect: without it, a sample with no or
one miss says nothing of how misses cluster. Chosen by `benchmarks/coverage.py`."""


class Interval(NamedTuple):
    """An estimate and both ends of its interval."""

    value: float
    low: float
    high: float


class _Sums(NamedTuple):
    """Residuals [G] of the clusters' sums, their number of queries [G], and all queries."""

    residual: np.ndarray
    size: np.ndarray
    queries: int

    @property
    def typical(self) -> float:
        """The size of the cluster that a query is in, on average over queries."""
        return float((self.size**2).sum() / self.queries)

    @property
    def freedom(self) -> float:
        """Degrees of freedom: clusters less one, where sizes differ as many as give the same variance."""
        return max(self.queries / self.typical - 1, 1.0)


def _sums(values: np.ndarray, cluster: np.ndarray | None) -> _Sums:
    """Clusters' sums of ``values`` [Q] about the mean over queries."""
    residual = values - values.mean()
    if cluster is None:
        return _Sums(residual, np.ones(len(values)), len(values))
    index = numbered(cluster, len(values))
    return _Sums(totals(residual, index), np.bincount(index).astype(np.float64), len(values))


def _end(sums: _Sums, share: float, tail: float) -> tuple[float, float]:
    """Both ends of the mean of values in 0..1 at ``tail`` on either side."""
    n, clusters = sums.queries, len(sums.size)
    spread = float((sums.residual**2).sum())
    if clusters > 1:
        spread *= clusters / (clusters - 1) * (n - 1) / n
    effect = (spread + _PRIOR * sums.typical**2) / (n * share * (1 - share) + _PRIOR * sums.typical)
    size = n / effect
    if clusters < n:
        size *= float(stdtrit(n - 1, tail) / stdtrit(sums.freedom, tail)) ** 2
    hits = share * size
    misses = size - hits
    low = float(betaincinv(hits, misses + 1, tail)) if hits > 0 else 0.0
    high = float(betaincinv(hits + 1, misses, 1 - tail)) if misses > 0 else 1.0
    return min(low, share), max(high, share)


def proportion(values: np.ndarray, cluster: np.ndarray | None = None, level: float = LEVEL) -> Interval:
    """Mean of credits ``values`` [Q] in 0..1 over the queries of clusters.

    Clopper-Pearson at an effective sample size n / deff with Korn and Graubard's t correction; deff is the linearised
    variance of the mean over clusters against that of independent hits. Where each query is its own cluster and
    credits are 0 or 1 it is Clopper-Pearson.

    Args:
        values: [Q], at least one.
        cluster: [Q] the cluster of each; None: each its own.
        level: of the interval.
    """
    share = float(np.clip(values.mean(), 0.0, 1.0))
    return Interval(share, *_end(_sums(values, cluster), share, (1 - level) / 2))


def difference(
    values: np.ndarray, cluster: np.ndarray | None = None, bound: float = 1.0, level: float = LEVEL
) -> Interval:
    """Mean of paired differences ``values`` [Q] in -bound..bound.

    The mean is the mean gain minus the mean loss; both have the interval of a `proportion`, and MOVER joins them with
    their correlation over clusters. With no query changed the ends are about 3.7 / Q, not 0.
    """
    gain, loss = np.maximum(values, 0) / bound, np.maximum(-values, 0) / bound
    up, down = _sums(gain, cluster), _sums(loss, cluster)
    tail = (1 - level) / 2
    won, lost = float(gain.mean()), float(loss.mean())
    won_low, won_high = _end(up, won, tail)
    lost_low, lost_high = _end(down, lost, tail)
    prior = _PRIOR * up.typical**2
    squares = ((up.residual**2).sum() + prior) * ((down.residual**2).sum() + prior)
    correlation = float((up.residual * down.residual).sum() / np.sqrt(squares))

    def reach(a: float, b: float) -> float:
        return float(np.sqrt(max(a * a + b * b - 2 * correlation * a * b, 0.0)))

    value = won - lost
    low = value - reach(won - won_low, lost_high - lost)
    high = value + reach(won_high - won, lost - lost_low)
    return Interval(bound * value, bound * max(low, -1.0), bound * min(high, 1.0))


def ratio(
    numerator: np.ndarray, denominator: np.ndarray, cluster: np.ndarray | None = None, level: float = LEVEL
) -> Interval:
    """Ratio of the means of two paired credits [Q] in 0..1: every r whose ``numerator - r * denominator`` may be 0.

    The upper end is infinite where a denominator of 0 cannot be excluded.

    Raises:
        ValueError: the denominator's mean is 0.
    """
    if denominator.mean() <= 0:
        raise ValueError("the ratio's denominator is 0")
    found = float(numerator.mean() / denominator.mean())

    def holds(r: float) -> bool:
        rest = difference(numerator - r * denominator, cluster, max(1.0, r), level)
        return rest.low <= 0 <= rest.high

    low = 0.0 if holds(0.0) else _bisect(holds, found, 0.0)
    outside = max(2.0 * found, 1.0)
    while holds(outside) and outside < 1e4:
        outside *= 2
    return Interval(found, low, float("inf") if holds(outside) else _bisect(holds, found, outside))


def _bisect(holds: Callable[[float], bool], inside: float, outside: float, steps: int = 40) -> float:
    """The border between a point where ``holds`` is true and one where it is not."""
    for _ in range(steps):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if holds(middle) else (inside, middle)
    return inside


def mean(values: np.ndarray, cluster: np.ndarray | None = None, level: float = LEVEL) -> Interval | None:
    """Mean of values [Q] without known bounds; None where all are equal or one cluster is all there is.

    t over clusters with the jackknife's variance, corrected for skewness by Hall's cubic transformation, which is what
    a studentised bootstrap estimates by resampling.
    """
    sums = _sums(np.asarray(values, dtype=np.float64), cluster)
    clusters = len(sums.size)
    centre = float(np.mean(values))
    if clusters < 2:
        return None
    # The jackknife's residual: without its cluster the mean moves by that over the number of queries.
    apart = sums.residual / (1 - sums.size / sums.queries)
    spread = float(np.sqrt((apart**2).mean()))
    if spread <= 1e-12 * max(1.0, abs(centre)):
        return None
    skew = float((apart**3).mean()) / spread**3 / np.sqrt(clusters)
    error = spread * np.sqrt(clusters - 1) / sums.queries
    quantile = float(stdtrit(sums.freedom, (1 + level) / 2))
    ends = [centre - error * _hall(side * quantile, skew) for side in (1, -1)]
    return Interval(centre, *ends)


def _hall(x: float, skew: float) -> float:
    """The t at which Hall's transformation is ``x``; ``skew`` is the skewness over the root of the clusters."""
    if abs(skew) < 1e-6:
        return x
    return float(3 / skew * (np.cbrt(1 + skew * (x - skew / 6)) - 1))


def resampled(
    statistic: Callable[[np.ndarray], np.ndarray], values: np.ndarray, cluster: np.ndarray, seed: int
) -> Interval:
    """``statistic`` of the means of columns, NaN left out, over resampled clusters: percentile interval.

    Args:
        statistic: means [R, K] -> numbers [R].
        values: [Q, K], NaN where a query has none.
        cluster: [Q].
        seed: of the draws.
    """
    told = ~np.isnan(values)
    both = totals(np.hstack([np.nan_to_num(values), told]), numbered(cluster, len(values)))
    clusters = len(both)
    generator = np.random.Generator(np.random.PCG64(seed))
    block = max(1, 2**24 // clusters)
    drawn = [both.sum(axis=0)[None]]
    for start in range(0, RESAMPLES, block):
        count = min(block, RESAMPLES - start)
        drawn.append(generator.multinomial(clusters, np.full(clusters, 1 / clusters), size=count) @ both)
    sums, counts = np.hsplit(np.concatenate(drawn), 2)
    found = statistic(sums / np.maximum(counts, 1))
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(found[1:], [tail, 1 - tail])
    return Interval(float(found[0]), float(low), float(high))
