"""Shapley values: what each part of a whole brings, averaged over the orders in which parts can be added."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from math import comb

import numpy as np

EXACT = 6
"""Up to this many parts all subsets are valued; beyond, parts are added in random orders."""

Subset = tuple[int, ...]


def subsets_needed(count: int, orders: int, seed: int) -> tuple[list[Subset], list[list[int]]]:
    """The subsets of ``count`` parts that have to be valued, and the orders drawn (none where all subsets are).

    Orders come in pairs, each with its reverse, which halves the number that is independent and lowers the error.
    """
    if count <= EXACT:
        return [s for size in range(count + 1) for s in combinations(range(count), size)], []
    generator = np.random.Generator(np.random.PCG64([seed, count]))
    drawn: list[list[int]] = []
    for _ in range((orders + 1) // 2):
        one = generator.permutation(count).tolist()
        drawn += [one, one[::-1]]
    prefixes = {tuple(sorted(order[:k])) for order in drawn for k in range(count + 1)}
    return sorted(prefixes, key=lambda s: (len(s), s)), drawn


def shapley(
    count: int, orders: Sequence[Sequence[int]], value: Callable[[Subset], float]
) -> tuple[np.ndarray, np.ndarray]:
    """Shares [count] and their standard errors (0 where exact); shares sum to value(all) - value(none) either way.

    Args:
        count: parts.
        orders: those of `subsets_needed`; empty: exact, over all subsets.
        value: of a sorted subset.
    """
    if not orders:
        shares = np.zeros(count)
        for part in range(count):
            others = [k for k in range(count) if k != part]
            for size in range(count):
                weight = 1 / (count * comb(count - 1, size))
                for chosen in combinations(others, size):
                    gain = value(tuple(sorted((*chosen, part)))) - value(chosen)
                    shares[part] += weight * gain
        return shares, np.zeros(count)
    gains = np.zeros((len(orders), count))
    for row, order in enumerate(orders):
        levels = [value(tuple(sorted(order[:k]))) for k in range(count + 1)]
        gains[row, list(order)] = np.diff(levels)
    pairs = gains.reshape(-1, 2, count).mean(axis=1)
    error = pairs.std(axis=0, ddof=1) / np.sqrt(len(pairs)) if len(pairs) > 1 else np.full(count, np.nan)
    return gains.mean(axis=0), error
