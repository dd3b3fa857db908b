"""What a query is credited with where candidates tie: the expectation over a random order of the equals.

A query has ``better`` candidates strictly above its best positive, and level with it ``equal`` candidates that are
not its positives and ``right`` that are. Written b, e, p, the first right candidate stands at place b + J, where J is
the first of p marked among e + p shuffled items (negative hypergeometric distribution). All three functions are
exact; with e = 0 they are the plain hit, rank and reciprocal rank. An encoder that gives every input the same
feature gets k / N, as guessing does.
"""

from __future__ import annotations

import numpy as np
from scipy.special import digamma

_TERMS = 1 << 20  # of the sum for reciprocal ranks that are held at once


def credit(better: np.ndarray, equal: np.ndarray, right: np.ndarray, k: int) -> np.ndarray:
    """Probability [Q] that a right candidate is among the first ``k``.

    0 where k <= b, else 1 - C(e, m) / C(e + p, m) with m = min(k - b, e + p).

    Args:
        better: [Q] b, candidates strictly better than the best positive.
        equal: [Q] e, candidates equal to it that are not positives.
        right: [Q] p >= 1, positives equal to it.
        k: at least 1.
    """
    b, e, p = (np.asarray(part, dtype=np.int64) for part in (better, equal, right))
    m = np.clip(k - b, 0, e + p)
    found = (m > 0).astype(np.float64)
    tied = np.flatnonzero((m > 0) & (e > 0))
    if len(tied):
        total, draws, marked = (e + p)[tied], m[tied], p[tied]
        # C(e, m) / C(e + p, m) is a product of m factors or, the same, of p: the shorter one, as a sum of logs.
        fewer, other = np.minimum(draws, marked), np.maximum(draws, marked)
        missed = np.zeros(len(tied))
        for i in range(int(fewer.max())):
            going = i < fewer
            with np.errstate(divide="ignore"):
                missed[going] += np.log1p(-np.minimum(other[going] / (total[going] - i), 1.0))
        found[tied] = -np.expm1(missed)
    return found


def expected_rank(better: np.ndarray, equal: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Expected place [Q] of the first right candidate, 1 is best: b + (e + p + 1) / (p + 1)."""
    b, e, p = (np.asarray(part, dtype=np.float64) for part in (better, equal, right))
    return b + (e + p + 1) / (p + 1)


def expected_reciprocal_rank(better: np.ndarray, equal: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Expectation [Q] of 1 / (b + J).

    With p = 1 it is (H(b + e + 1) - H(b)) / (e + 1), H the harmonic numbers; else the sum over J, computed once for
    each (b, e, p) that occurs.
    """
    b, e, p = (np.asarray(part, dtype=np.int64) for part in (better, equal, right))
    out = 1.0 / (b + 1)
    single = (e > 0) & (p == 1)
    out[single] = (digamma(b[single] + e[single] + 2.0) - digamma(b[single] + 1.0)) / (e[single] + 1)
    several = np.flatnonzero((e > 0) & (p > 1))
    if len(several):
        cases, which = np.unique(np.column_stack([b, e, p])[several], axis=0, return_inverse=True)
        out[several] = np.array([_reciprocal(*case) for case in cases.tolist()])[which]
    return out


def _reciprocal(b: int, e: int, p: int) -> float:
    """Sum over j = 1..e + 1 of P(J = j) / (b + j), where P(J > j) = P(J > j - 1) * (e + 1 - j) / (e + p + 1 - j)."""
    total, left = 0.0, 1.0
    for start in range(1, e + 2, _TERMS):
        j = np.arange(start, min(start + _TERMS, e + 2), dtype=np.float64)
        after = left * np.cumprod((e + 1 - j) / (e + p + 1 - j))
        before = np.concatenate([[left], after[:-1]])
        total += float((before * p / (e + p + 1 - j) / (b + j)).sum())
        left = float(after[-1])
        if left == 0.0:
            break
    return total
