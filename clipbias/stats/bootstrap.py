"""Intervals and tests: cluster bootstrap of means and paired differences, McNemar, Holm."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

RESAMPLES = 2000
LEVEL = 0.95
INTERVAL = f"percentile bootstrap over images, {RESAMPLES} resamples, {LEVEL:.0%}"


class ClusterBootstrap:
    """Resampled means over queries that belong to clusters (images).

    A resample draws as many clusters as there are, with replacement; a query counts as often as its
    cluster was drawn. One set of draws serves every value, so differences are paired.
    """

    def __init__(self, cluster: np.ndarray, seed: int, resamples: int = RESAMPLES) -> None:
        """``cluster`` [Q]: the cluster of each query."""
        names, self._cluster = np.unique(cluster, return_inverse=True)
        count = len(names)
        generator = np.random.Generator(np.random.PCG64(seed))
        self._weights = generator.multinomial(count, np.full(count, 1 / count), size=resamples).astype(np.float32)
        self._size = count

    def means(self, values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """Resampled means [R, K] of ``values`` [Q, K] over the queries where ``chosen`` [Q] is true."""
        sums = np.zeros((self._size, values.shape[1]))
        np.add.at(sums, self._cluster[chosen], values[chosen])
        counts = np.bincount(self._cluster[chosen], minlength=self._size)
        return (self._weights @ sums) / np.maximum(self._weights @ counts, 1e-12)[:, None]


def percentile_interval(resampled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper end [K] of the 95% percentile interval of resampled means [R, K]."""
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail], axis=0)
    return low, high


def mcnemar_exact(first: np.ndarray, second: np.ndarray) -> float:
    """Exact two-sided McNemar p of two paired yes/no outcomes [Q]: binomial on the queries that differ."""
    from scipy.stats import binomtest

    gained = int((second & ~first).sum())
    lost = int((first & ~second).sum())
    return 1.0 if gained + lost == 0 else float(binomtest(gained, gained + lost).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction of a family of p values, in their order."""
    order = np.argsort(p_values, kind="stable")
    out = np.empty(len(p_values))
    running = 0.0
    for place, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - place) * p_values[index]))
        out[index] = running
    return out.tolist()
