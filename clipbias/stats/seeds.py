"""Differences between training recipes, over training seeds and queries at once.

The same queries are asked of every seed: d[s, q] = mu + seed[s] + query[q] + rest[s, q]. The mean over both varies
with the seeds drawn and with the queries drawn, and an interval has to carry both shares.
"""

from __future__ import annotations

import numpy as np
from scipy.special import stdtrit

from clipbias.stats.clusters import numbered, totals
from clipbias.stats.intervals import LEVEL, Interval, difference

LEAST_SEEDS = 5
"""With fewer seeds their spread is not known well enough for an interval worth printing."""
_LEAST_SHARE = 0.1
"""Of the queries' variance that is counted as common to all seeds, whatever its estimate."""


def over_seeds(
    values: np.ndarray,
    cluster: np.ndarray | None = None,
    bound: float = 1.0,
    least: int = LEAST_SEEDS,
    level: float = LEVEL,
) -> Interval | None:
    """Mean of differences ``values`` [S, Q] of S seeds on the same Q queries; None with fewer than ``least`` seeds.

    Two half-widths, joined as root of the sum of squares (the modified large-sample method of Graybill and Wang
    1980, MOVER): the seeds' is t with S - 1 degrees of freedom; the queries' is that of `difference` on the mean over
    seeds, times the root of the share of its variance that all seeds have in common. The rest of it, queries' luck
    that differs between seeds, is in the seeds' variance already.

    Args:
        values: paired differences of credits, recipe minus reference, each in -bound..bound.
        cluster: [Q] the image of each query; None: each its own.
        bound: the largest size of a difference.
        least: seeds that an interval needs, at least 2.
        level: of the interval.
    """
    seeds = len(values)
    if seeds < max(2, least):
        return None
    queries = difference(values.mean(axis=0), cluster, bound, level)
    per_seed = values.mean(axis=1)
    sums = totals((values - per_seed[:, None]).T, numbered(cluster, values.shape[1])).T
    shared = sums.mean(axis=0)
    noise = float(((sums - shared) ** 2).sum()) / (seeds - 1) / seeds  # of the mean, by queries' luck seed by seed
    total = float((shared**2).sum())
    share = max(1 - noise / total, _LEAST_SHARE) if total > 0 else 1.0
    carried = np.sqrt(share)
    reach = float(stdtrit(seeds - 1, (1 + level) / 2) * np.sqrt(per_seed.var(ddof=1) / seeds))
    value = float(values.mean())
    low = value - float(np.hypot(carried * (value - queries.low), reach))
    high = value + float(np.hypot(carried * (queries.high - value), reach))
    return Interval(value, max(low, -bound), min(high, bound))


def from_estimates(
    estimates: np.ndarray,
    query_variance: float | np.ndarray,
    least: int = LEAST_SEEDS,
    level: float = LEVEL,
) -> Interval | None:
    """As `over_seeds` where only each seed's estimate [S] is known, and the variance that its queries give it.

    Args:
        estimates: [S], in any unit.
        query_variance: [S] or one number, in that unit squared: the squared standard error of a seed's estimate over
            queries. It counts in full, as the queries are the same for all seeds.
        least, level: as in `over_seeds`.
    """
    estimates = np.asarray(estimates, dtype=np.float64)
    seeds = len(estimates)
    if seeds < max(2, least):
        return None
    value = float(estimates.mean())
    between = float(estimates.var(ddof=1)) / seeds
    error = float(np.sqrt(np.mean(query_variance) + between))
    # Satterthwaite: the queries' part has many degrees of freedom, the seeds' part has S - 1.
    share = between / error**2 if error else 1.0
    freedom = (seeds - 1) / max(share**2, 1e-6 * (seeds - 1))  # a million at most: normal
    reach = float(stdtrit(freedom, (1 + level) / 2) * error)
    return Interval(value, value - reach, value + reach)
