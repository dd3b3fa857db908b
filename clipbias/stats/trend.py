"""Page's test of a trend over ordered conditions."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import ndtr
from scipy.stats import rankdata

from clipbias.stats.clusters import numbered, totals


class Trend(NamedTuple):
    """``z``: above 0 where values rise with the order; ``p``: two-sided."""

    z: float
    p: float


def page(values: np.ndarray, cluster: np.ndarray | None = None) -> Trend | None:
    """Page's (1963) L test of ``values`` [Q, K] for a trend over K >= 3 ordered conditions; None where all are tied.

    A block is a cluster: its values are means over its queries, ranked across conditions, ties sharing the middle
    rank. L = sum over k of k * (sum of ranks in condition k) is referred to the normal distribution with the variance
    that ranks have given their ties; without ties that is n K^2 (K + 1)^2 (K - 1) / 144 (K + 1 once more in the
    form of Page's table).
    """
    blocks = np.asarray(values, dtype=np.float64)
    if cluster is not None:
        index = numbered(cluster, len(blocks))
        blocks = totals(blocks, index) / np.bincount(index)[:, None]
    count = blocks.shape[1]
    # Sums of floats that are equal on paper differ in the last digits.
    ranks = rankdata(np.round(blocks, 9), axis=1)
    order = np.arange(1, count + 1) - (count + 1) / 2
    apart = ranks - (count + 1) / 2
    variance = float((apart**2).sum() * (order**2).sum() / (count - 1))
    if variance <= 0:
        return None
    z = float((apart @ order).sum() / np.sqrt(variance))
    return Trend(z, float(2 * ndtr(-abs(z))))
