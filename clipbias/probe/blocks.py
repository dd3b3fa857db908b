"""Items in the order in which blocks of similarities are computed: equal features share a row, positives lie close."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """Queries or candidates of one modality, in blocks of distinct feature rows.

    Items with bit-equal features share a row. Matrix products round differently at the edges of
    their tiles; computing an equal row once is what makes equal features tie exactly.

    Attributes:
        items: item numbers, sorted by row; int32 as the others.
        row: the row of each entry of ``items``.
        place: item number -> its index in ``items``.
    """

    items: np.ndarray
    row: np.ndarray
    place: np.ndarray

    def chunks(self, rows: range, block: int) -> Iterator[tuple[int, slice, np.ndarray]]:
        """(first feature row, slice of ``items``, local row of each of them), bounded both ways by ``block``.

        ``rows`` begin at a multiple of ``block``.
        """
        for first in range(rows.start, rows.stop, block):
            begin, end = np.searchsorted(self.row, np.array([first, first + block], dtype=self.row.dtype))
            for start in range(begin, end, block):
                part = slice(start, min(start + block, end))
                yield first, part, self.row[part] - first


def _distinct(features: Tensor) -> np.ndarray:
    """The first item with the same bits, for each row of ``features`` [N, D]."""
    generator = np.random.Generator(np.random.PCG64(0))
    factors = generator.integers(1, 2**62, size=features.shape[1], dtype=np.int64) | 1
    code = np.empty(len(features), dtype=np.int64)
    for start in range(0, len(features), 8192):
        # Adding 0.0 turns -0.0 into 0.0; integer sums wrap around, and are the same in any order.
        bits = (features[start : start + 8192] + 0.0).numpy().view(np.int32)
        code[start : start + 8192] = (bits * factors).sum(axis=1)
    same = _first_equal(code)
    moved = np.flatnonzero(same != np.arange(len(same)))
    if len(moved) and not torch.equal(features[moved] + 0.0, features[same[moved]] + 0.0):
        raise AssertionError("two features share a 64-bit code without being equal")
    return same


def _first_equal(code: np.ndarray) -> np.ndarray:
    """The first place with the same value, for each place of ``code`` [N]; int32."""
    order = np.argsort(code, kind="stable")
    code = code[order]
    new = np.ones(len(code), dtype=bool)
    np.not_equal(code[1:], code[:-1], out=new[1:])
    order = order.astype(np.int32)
    same = np.empty_like(order)
    same[order] = order[new][np.cumsum(new, dtype=np.int32) - 1]
    return same


def laid_out(features: Tensor, source: np.ndarray, key: np.ndarray) -> tuple[Tensor, Layout]:
    """Distinct rows of ``features[source]`` [U, D], ordered by the least ``key`` of their items, and who has which."""
    order = np.argsort(key, kind="stable").astype(np.int32)
    same = _distinct(features)[source[order]]
    # Of places that are given several times the last is kept: going backwards, the first use of each row.
    use = np.empty(len(features), dtype=np.int32)
    use[same[::-1]] = np.arange(len(same) - 1, -1, -1, dtype=np.int32)
    use = use[same]
    first = np.zeros(len(same), dtype=bool)
    first[use] = True
    chosen = same[first]
    row = (np.cumsum(first, dtype=np.int32) - 1)[use]
    del same, use
    sort = np.argsort(row, kind="stable")
    items = order[sort]
    place = np.empty_like(items)
    place[items] = np.arange(len(items), dtype=np.int32)
    identity = len(chosen) == len(features) and bool((chosen == np.arange(len(chosen))).all())
    kept = features if identity else features[torch.from_numpy(chosen.astype(np.int64))]
    return kept, Layout(items, row[sort], place)


def share_of_rows(count: int, block: int, rank: int, size: int) -> range:
    """The ``rank``-th of ``size`` shares of ``count`` feature rows, in whole blocks."""
    blocks = -(-count // block)
    return range(min(count, blocks * rank // size * block), min(count, blocks * (rank + 1) // size * block))
