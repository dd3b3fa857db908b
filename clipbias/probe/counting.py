"""One pass over blocks of the similarity matrix, by one process or by several with a share of the columns each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clipbias.models.fp32 import full_fp32
from clipbias.probe.blocks import Layout

DIRECTIONS = ("t2i", "i2t")
Counts = dict[str, tuple[np.ndarray, ...]]
"""By direction: better, equal, right (int32), cosine, margin (float32), in the order of the layout's items."""


@dataclass(frozen=True)
class Work:
    """What is to be counted, features apart: a few integers an item.

    Attributes:
        lines: the captions; ``columns``: the images.
        own: [M] the place among the columns of each line's image; int32.
        rows: how many feature rows the lines have.
        width: D.
        block: rows and columns of a block.
    """

    lines: Layout
    columns: Layout
    own: np.ndarray
    rows: int
    width: int
    block: int


@dataclass(frozen=True)
class Share:
    """One process' part.

    Attributes:
        range: of the columns' feature rows.
        rows: those features, on the device.
        lines: first row -> that block of the lines' features on the device; asked for in ascending order, twice.
        total: puts the processes' tensors together, element by element: by "sum" or "max".
    """

    range: range
    rows: Tensor
    lines: Callable[[int], Tensor]
    total: Callable[[Tensor, str], Tensor]


class _Tallies:
    """Counts of every query of both directions, of the columns that this process has."""

    def __init__(self, work: Work, device: torch.device) -> None:
        count = {"t2i": len(work.lines.items), "i2t": len(work.columns.items)}
        self.best = {d: torch.full((n,), -torch.inf, device=device) for d, n in count.items()}
        self.rival = {d: torch.full((n,), -torch.inf, device=device) for d, n in count.items()}
        self.ahead, self.level, self.right = (
            {d: torch.zeros(n, dtype=torch.int32, device=device) for d, n in count.items()} for _ in range(3)
        )

    def add_positives(self, lines: slice, columns: slice, found: Tensor, hit: Tensor, column: Tensor) -> None:
        """Note a block's positives: at local line ``hit`` and ``column``, similarity ``found``."""
        self.best["t2i"][lines][hit] = found
        self.best["i2t"][columns].scatter_reduce_(0, column, found, "amax")

    def add(self, lines: slice, columns: slice, values: Tensor, hit: Tensor, column: Tensor) -> None:
        """Count a block [B, C], which is changed."""
        found = values[hit, column]
        self.right["t2i"][lines][hit] += found == self.best["t2i"][lines][hit]
        self.right["i2t"][columns].index_add_(0, column, (found == self.best["i2t"][columns][column]).int())
        values[hit, column] = -torch.inf
        for direction, part, axis in (("t2i", lines, 1), ("i2t", columns, 0)):
            rival, best = self.rival[direction][part], self.best[direction][part]
            top = values.amax(dim=axis)
            torch.maximum(rival, top, out=rival)
            chosen, these = _contested(values, top, best, axis)
            bound = best[chosen].unsqueeze(axis)
            above = torch.count_nonzero(these > bound, dim=axis)
            self.ahead[direction][part][chosen] += above
            self.level[direction][part][chosen] += torch.count_nonzero(these >= bound, dim=axis) - above


def _contested(values: Tensor, top: Tensor, best: Tensor, axis: int) -> tuple[slice | Tensor, Tensor]:
    """Which queries of a block have something to count, and their part of it: all, where that is not worth the choice.

    Most queries have no candidate in a block that comes up to their best positive. A GPU would have to be waited for.
    """
    if values.device.type != "cpu":
        return slice(None), values
    reached = torch.nonzero(top >= best).squeeze(1)
    if len(reached) > len(best) // 4:
        return slice(None), values
    return reached, values.index_select(1 - axis, reached)


@full_fp32()
def count(work: Work, share: Share) -> Counts:
    """Counts over all columns; the same at every process, and to the bit those of one that has all columns."""
    device = share.rows.device
    tallies = _Tallies(work, device)
    for lines, columns, values, hit, column in _blocks(work, share, only_positives=True):
        tallies.add_positives(lines, columns, values[hit, column], hit, column)
    for direction in DIRECTIONS:
        tallies.best[direction] = share.total(tallies.best[direction], "max")
    for lines, columns, values, hit, column in _blocks(work, share, only_positives=False):
        tallies.add(lines, columns, values, hit, column)
    out = {}
    for direction in DIRECTIONS:
        sums = [share.total(part[direction], "sum") for part in (tallies.ahead, tallies.level, tallies.right)]
        rival = share.total(tallies.rival[direction], "max")
        margin = (tallies.best[direction] - rival).clamp(max=2.0)
        out[direction] = tuple(part.cpu().numpy() for part in (*sums, tallies.best[direction], margin))
    return out


def _blocks(work: Work, share: Share, only_positives: bool) -> Iterator[tuple[slice, slice, Tensor, Tensor, Tensor]]:
    """(lines, columns, block [B, C], and its positive entries as local indices)."""
    device, last = share.rows.device, -1
    for t_first, t_part, t_local in work.lines.chunks(range(work.rows), work.block):
        own = work.own[t_part]
        if t_first != last:
            texts, last = share.lines(t_first), t_first
        for i_first, i_part, i_local in work.columns.chunks(share.range, work.block):
            hit = np.flatnonzero((own >= i_part.start) & (own < i_part.stop))
            if only_positives and not len(hit):
                continue
            start = i_first - share.range.start
            # The product is always that of the same two whole blocks: the same bits in both passes.
            product = texts @ share.rows[start : start + work.block].T
            rows, columns = (placed(part, device) for part in (hit, own[hit].astype(np.int64) - i_part.start))
            yield t_part, i_part, _expand(product, t_local, i_local), rows, columns


def placed(numbers: np.ndarray, device: torch.device) -> Tensor:
    """On the device; the host does not wait for what the device is doing."""
    return torch.from_numpy(numbers).to(device, non_blocking=True)


def _expand(product: Tensor, lines: np.ndarray, columns: np.ndarray) -> Tensor:
    """A block of distinct rows as one of items; nothing is copied where each row has one item."""
    for axis, local in ((0, lines), (1, columns)):
        if len(local) != product.shape[axis] or (local != np.arange(len(local))).any():
            product = product.index_select(axis, placed(local, product.device))
    return product
