"""Tests of a paired change over clusters, and correction for many of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clipbias.stats.clusters import numbered, totals

DRAWS = 99_999
_LATTICE = 1 << 21  # most steps of the exact distribution
_BLOCK = 1 << 22  # signs drawn at once


def sign_flip(values: np.ndarray, cluster: np.ndarray | None = None, seed: int = 0) -> float:
    """Two-sided p of no change: the signs of the clusters' sums of ``values`` [Q] are as good as random.

    Exact by convolution where the sums lie on a grid of halves, thirds ... sixtieths (hits, most ties); else by
    `DRAWS` random flips. With one query a cluster and hits or misses it is McNemar's exact test; unlike that, it
    keeps its level where a cluster has several queries. Values below 1e-15 are given as that (1e-300 for McNemar's).
    """
    sums = np.asarray(values, dtype=np.float64)
    if cluster is not None:
        sums = totals(sums, numbered(cluster, len(sums)))
    sums = sums[np.abs(sums) > 1e-9]
    if not len(sums):
        return 1.0
    for scale in (1, 2, 6, 12, 60):
        steps = np.rint(sums * scale)
        if np.allclose(steps, sums * scale, rtol=0, atol=1e-7) and np.abs(steps).sum() <= _LATTICE:
            return _exact(steps.astype(np.int64))
    return _sampled(sums, seed)


def _exact(steps: np.ndarray) -> float:
    """P(|sum of flipped steps| >= |their sum|) for whole numbers [G]."""
    size, many = np.unique(np.abs(steps), return_counts=True)
    chances = np.ones(1)  # of the number of grid steps that kept their sign, 0..sum
    for step, count in zip(size.tolist(), many.tolist(), strict=True):
        one = np.zeros(step * count + 1)
        one[::step] = _fair_coins(count)
        chances = _convolved(chances, one) if min(len(chances), len(one)) > 64 else np.convolve(chances, one)
    total = int(np.abs(steps).sum())
    away = np.abs(2 * np.arange(total + 1) - total)
    # Fourier convolution is good to about 1e-16, whatever the size of the result.
    least = 1e-300 if len(size) == 1 else 1e-15
    return float(np.clip(chances[away >= abs(int(steps.sum()))].sum(), least, 1.0))


def _fair_coins(count: int) -> np.ndarray:
    """P(k heads) of ``count`` fair coins, k = 0..count; scipy.stats has it, and takes most of a second to import."""
    half = count // 2
    k = np.arange(half, count)
    upper = np.concatenate([[1.0], np.cumprod((count - k) / (k + 1))])  # over P(half heads), from there on
    whole = np.concatenate([upper[:0:-1] if count % 2 == 0 else upper[:1:-1], upper])
    return whole / whole.sum()


def _convolved(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Their convolution, by Fourier transforms."""
    from scipy.fft import irfft, next_fast_len, rfft

    count = len(one) + len(other) - 1
    fast = next_fast_len(count, real=True)
    return irfft(rfft(one, fast) * rfft(other, fast), fast)[:count]


def _sampled(sums: np.ndarray, seed: int) -> float:
    """As `_exact` for any numbers [G], by random flips; the data's own signs count as one of them."""
    generator = np.random.Generator(np.random.PCG64(seed))
    size, found = np.abs(sums), abs(float(sums.sum())) * (1 - 1e-12)
    block = max(1, _BLOCK // len(size))
    beyond = 1
    for start in range(0, DRAWS, block):
        kept = generator.integers(0, 2, size=(min(block, DRAWS - start), len(size)), dtype=np.int8)
        beyond += int((np.abs(2 * (kept @ size) - size.sum()) >= found).sum())
    return beyond / (DRAWS + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction of a family of p values, in their order."""
    order = np.argsort(p_values, kind="stable")
    out = np.empty(len(p_values))
    running = 0.0
    for place, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - place) * p_values[index]))
        out[index] = running
    return out.tolist()
