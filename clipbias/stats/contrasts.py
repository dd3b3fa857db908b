"""Contrasts between two models: differences of drops, equivalence within a margin, and log-odds."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from clipbias.stats.clusters import numbered, totals
from clipbias.stats.intervals import LEVEL, Interval, difference, proportion
from clipbias.stats.tests import sign_flip

EXTREME = 0.05
"""Log-odds stand beside points where a recall is nearer than this to 0 or 1."""


class Contrast(NamedTuple):
    """A difference of two drops on the same queries, and each drop (condition minus baseline), 95% each."""

    first: Interval
    second: Interval
    apart: Interval  # second minus first
    p: float
    log_odds: Interval | None


class Equivalence(NamedTuple):
    """Two one-sided tests at 5% against a margin: ``p`` of equivalence, and ``p_no_worse`` of the lower side alone."""

    margin: float
    p: float
    p_no_worse: float


def contrast(
    first: tuple[np.ndarray, np.ndarray],
    second: tuple[np.ndarray, np.ndarray],
    cluster: np.ndarray | None = None,
    seed: int = 0,
) -> Contrast:
    """Whether a condition costs the second model less than the first (difference in differences).

    Args:
        first: credits ([Q] under the baseline, [Q] under the condition) of one model, in 0..1.
        second: those of the other, on the same queries.
        cluster: [Q] the image of each query.
        seed: of the test, where it has to sample.
    """
    drops = [changed - base for base, changed in (first, second)]
    apart = drops[1] - drops[0]
    shares = [float(part.mean()) for part in (*first, *second)]
    extreme = any(share < EXTREME or share > 1 - EXTREME for share in shares)
    return Contrast(
        difference(drops[0], cluster),
        difference(drops[1], cluster),
        difference(apart, cluster, 2.0),
        sign_flip(apart, cluster, seed),
        log_odds([*first, *second], np.array([1.0, -1.0, -1.0, 1.0]), cluster) if extreme else None,
    )


def equivalence(
    values: np.ndarray, margin: float, cluster: np.ndarray | None = None, bound: float = 1.0
) -> Equivalence:
    """Tests that the mean of differences [Q] lies within ``margin`` of 0 (TOST, Schuirmann 1987).

    The p of each side is the tail at which the interval of `difference` reaches the margin.

    Raises:
        ValueError: the margin is not above 0.
    """
    if not margin > 0:
        raise ValueError(f"margin {margin}; it must be above 0")
    below = _tail(lambda level: difference(values, cluster, bound, level).low > -margin)
    above = _tail(lambda level: difference(values, cluster, bound, level).high < margin)
    return Equivalence(margin, max(below, above), below)


def _tail(clear: Callable[[float], bool]) -> float:
    """The least one-sided tail at which ``clear(level)`` holds, by bisection on its logarithm; 0.5 where none does."""
    low, high = np.log(1e-12), np.log(0.5)
    if not clear(1e-9):
        return 0.5
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if clear(1 - 2 * np.exp(middle)) else (middle, high)
    return float(np.exp(high))


def log_odds(
    parts: list[np.ndarray], weights: np.ndarray, cluster: np.ndarray | None = None, level: float = LEVEL
) -> Interval:
    """A weighted sum of the log-odds of several means of credits [Q], on the same queries.

    Estimates add half a hit and half a miss (Haldane and Anscombe); ends join those of `proportion` by MOVER (Zou,
    Huang and Zhang 2009) with the correlations over clusters. Ends are infinite where a mean of 0 or 1 is not excluded.
    """
    size = len(parts[0])
    index = numbered(cluster, size)
    sums = np.stack([totals(part - part.mean(), index) for part in parts])
    # One independent cluster of doubt in each variance, so that equal columns do not cancel altogether.
    doubt = float((np.bincount(index) ** 2).sum() / size) ** 2
    spread = np.sqrt((sums**2).sum(axis=1) + doubt)
    correlation = sums @ sums.T / np.outer(spread, spread)
    np.fill_diagonal(correlation, 1.0)
    ends = [proportion(part, cluster, level) for part in parts]
    centre = np.array([_logit((part.sum() + 0.5) / (size + 1)) for part in parts])
    below = np.array([min(_logit(end.low) - c, 0.0) for end, c in zip(ends, centre, strict=True)])
    above = np.array([max(_logit(end.high) - c, 0.0) for end, c in zip(ends, centre, strict=True)])
    value = float(weights @ centre)

    def reach(low: bool) -> float:
        arms = weights * np.where((weights > 0) == low, below, above)
        if not np.isfinite(arms).all():
            return float("inf")
        return float(np.sqrt(max(arms @ correlation @ arms, 0.0)))

    return Interval(value, value - reach(True), value + reach(False))


def _logit(share: float) -> float:
    with np.errstate(divide="ignore"):
        return float(np.log(share) - np.log1p(-share))
