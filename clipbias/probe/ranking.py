"""Retrieval metrics: exact counts in blocks, and the numbers made of them.

Of a query are counted the candidates that are better than its best positive, and those that equal it, to the bit:
positives and others. What equals are worth is decided in `clipbias.stats.ties`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clipbias.errors import UserError
from clipbias.stats.ties import credit, expected_rank, expected_reciprocal_rank

RECALL_AT = (1, 5, 10)
CREDITS = frozenset({*(f"recall@{k}" for k in RECALL_AT), "mrr"})
"""Metrics whose value for a query is a credit in 0..1."""
DIRECTIONS = ("t2i", "i2t")
BLOCK = 2048
"""Rows and columns of one block of similarities: 16 MiB in float32."""


@dataclass(frozen=True)
class Ranking:
    """Per query [Q].

    Attributes:
        better: candidates, no positives, whose similarity is above the best positive's (int64).
        equal: candidates, no positives, that equal it.
        right: positives that equal it, itself included.
        cosine: with the best positive (float32).
        margin: that minus the best negative's (float32); 2, the cosine's whole range, where there is no negative.
    """

    better: np.ndarray
    equal: np.ndarray
    right: np.ndarray
    cosine: np.ndarray
    margin: np.ndarray

    @property
    def counts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """``better``, ``equal`` and ``right``: what the functions of `clipbias.stats.ties` take."""
        return self.better, self.equal, self.right


@dataclass(frozen=True)
class _Side:
    """Queries or candidates of one modality, in blocks of distinct feature rows.

    Items with bit-equal features share a row. Matrix products round differently at the edges of
    their tiles; computing an equal row once is what makes equal features tie exactly.
    """

    rows: Tensor  # [U, D] distinct features, in order of use
    items: np.ndarray  # item numbers, sorted by row
    row: np.ndarray  # the row of each entry of ``items``
    place: np.ndarray  # item number -> its index in ``items``

    def chunks(self, block: int) -> Iterator[tuple[int, slice, np.ndarray]]:
        """(first feature row, slice of ``items``, local row of each of them), bounded both ways by ``block``."""
        for first in range(0, len(self.rows), block):
            begin, end = np.searchsorted(self.row, [first, first + block])
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
    _, first, inverse = np.unique(code, return_index=True, return_inverse=True)
    same = first[inverse]
    moved = np.flatnonzero(same != np.arange(len(same)))
    if len(moved) and not torch.equal(features[moved] + 0.0, features[same[moved]] + 0.0):
        raise AssertionError("two features share a 64-bit code without being equal")
    return same


def _side(features: Tensor, source: np.ndarray, key: np.ndarray) -> _Side:
    """Items with features ``features[source]``, rows ordered by the least ``key`` of their items."""
    same = _distinct(features)[source]
    order = np.lexsort((np.arange(len(key)), key))
    _, first, inverse = np.unique(same[order], return_index=True, return_inverse=True)
    rank_of_row = np.empty(len(first), dtype=np.int64)
    by_use = np.argsort(first)
    rank_of_row[by_use] = np.arange(len(first))
    row = rank_of_row[inverse]
    sort = np.argsort(row, kind="stable")
    items = order[sort]
    place = np.empty(len(items), dtype=np.int64)
    place[items] = np.arange(len(items))
    chosen = same[order][first[by_use]]
    identity = len(chosen) == len(features) and bool((chosen == np.arange(len(chosen))).all())
    rows = features if identity else features[torch.from_numpy(chosen)]
    return _Side(rows, items, row[sort], place)


def rank_both(
    texts: Tensor,
    images: Tensor,
    caption_image: np.ndarray,
    caption_row: np.ndarray | None = None,
    block: int = BLOCK,
    device: torch.device | str = "cpu",
) -> dict[str, Ranking]:
    """Ranks in both directions in one pass over blocks of the similarity matrix, which is never held whole.

    Args:
        texts: [U, D] float32 features of distinct texts.
        images: [N, D] float32.
        caption_image: [M] the image of each caption; an image may have several.
        caption_row: [M] the row of ``texts`` of each caption; default: one each, in order.
        block: rows and columns of a block; memory is a few times ``4 * block**2`` bytes.
        device: where blocks are computed.

    Returns:
        "t2i": a `Ranking` over M captions (candidates: images); "i2t": one over N images (candidates:
        captions, of which any of the image's own counts as found).

    Raises:
        UserError: NaN or infinite features, or an image without a caption.
    """
    owner = np.asarray(caption_image)
    _check(texts, images, owner)
    columns = _side(images, np.arange(len(images)), np.arange(len(images)))
    source = np.arange(len(owner)) if caption_row is None else np.asarray(caption_row)
    # Captions in the order of their images: positives then lie in few blocks, near the diagonal.
    lines = _side(texts, source, columns.place[owner])
    own_column = torch.from_numpy(columns.place[owner[lines.items]])  # in the columns' order
    tiles = _Tiles(lines, columns, lines.rows.to(device), columns.rows.to(device), own_column.to(device), block)
    sizes = {"t2i": len(owner), "i2t": len(images)}
    best = {d: torch.full((n,), -torch.inf, device=device) for d, n in sizes.items()}
    for t_part, i_part, values, hit, column in tiles.similarities(only_positives=True):
        found = values[hit, column]
        best["t2i"][t_part][hit] = found
        best["i2t"][i_part].scatter_reduce_(0, column, found, "amax")
    counted = {d: _Counts.empty(n, device) for d, n in sizes.items()}
    for t_part, i_part, values, hit, column in tiles.similarities(only_positives=False):
        found = values[hit, column]
        counted["t2i"].right[t_part][hit] += found == best["t2i"][t_part][hit]
        counted["i2t"].right[i_part].index_add_(0, column, (found == best["i2t"][i_part][column]).long())
        values[hit, column] = -torch.inf
        counted["t2i"].add(t_part, values, best["t2i"], axis=1)
        counted["i2t"].add(i_part, values, best["i2t"], axis=0)
    back = {"t2i": lines.place, "i2t": columns.place}
    return {d: counted[d].ranking(best[d], back[d]) for d in DIRECTIONS}


def _check(texts: Tensor, images: Tensor, owner: np.ndarray) -> None:
    """Refuse what cannot be ranked.

    Raises:
        UserError: NaN or infinite features, or an image without a caption.
    """
    for what, features in (("text", texts), ("image", images)):
        if not bool(torch.isfinite(features).all()):
            raise UserError(f"the model's {what} features hold NaN or infinite values; they cannot be ranked")
    lonely = np.setdiff1d(np.arange(len(images)), owner)
    if len(lonely):
        raise UserError(f"image {lonely[0]} has no caption; it cannot be a query")


@dataclass(frozen=True)
class _Tiles:
    """The blocks of the similarity matrix of two sides; ``own`` is the column of each line's positive."""

    lines: _Side
    columns: _Side
    t_rows: Tensor
    i_rows: Tensor
    own: Tensor
    block: int

    def similarities(self, only_positives: bool) -> Iterator[tuple[slice, slice, Tensor, Tensor, Tensor]]:
        """(lines, columns, block [B, C], and its positive entries as local indices)."""
        for t_first, t_part, t_local in self.lines.chunks(self.block):
            for i_first, i_part, i_local in self.columns.chunks(self.block):
                own = self.own[t_part]
                hit = ((own >= i_part.start) & (own < i_part.stop)).nonzero().squeeze(1)
                if only_positives and not len(hit):
                    continue
                # The product is always that of the same two whole blocks: the same bits in both passes.
                product = self.t_rows[t_first : t_first + self.block] @ self.i_rows[i_first : i_first + self.block].T
                yield t_part, i_part, _expand(product, t_local, i_local), hit, own[hit] - i_part.start


@dataclass(frozen=True)
class _Counts:
    """Of each query [Q] of a direction: what `Ranking` holds, and the best negative's similarity."""

    ahead: Tensor
    level: Tensor
    right: Tensor
    rival: Tensor

    @staticmethod
    def empty(queries: int, device: torch.device | str) -> _Counts:
        """Nothing counted yet."""
        ahead, level, right = (torch.zeros(queries, dtype=torch.int64, device=device) for _ in range(3))
        return _Counts(ahead, level, right, torch.full((queries,), -torch.inf, device=device))

    def add(self, part: slice, values: Tensor, best: Tensor, axis: int) -> None:
        """Count a block's negatives (its positives are -inf) for its queries ``part``, which lie across ``axis``."""
        bound = best[part].unsqueeze(axis)
        above = torch.count_nonzero(values > bound, dim=axis)
        self.ahead[part] += above
        self.level[part] += torch.count_nonzero(values >= bound, dim=axis) - above
        torch.maximum(self.rival[part], values.amax(dim=axis), out=self.rival[part])

    def ranking(self, best: Tensor, order: np.ndarray) -> Ranking:
        """The finished counts, item ``order[i]`` becoming query i."""
        parts = (self.ahead, self.level, self.right, best, (best - self.rival).clamp(max=2.0))
        return Ranking(*(part.cpu().numpy()[order] for part in parts))


def leaders(
    texts: Tensor,
    images: Tensor,
    caption_image: np.ndarray,
    caption_row: np.ndarray,
    chosen: np.ndarray,
    device: torch.device | str = "cpu",
) -> np.ndarray:
    """The best image [M] other than its own of the captions ``chosen``, -1 for the others; int32.

    Args:
        texts, images, caption_image, caption_row, device: as `rank_both` takes them.
        chosen: numbers of the captions whose own image is not first.
    """
    out = np.full(len(caption_image), -1, dtype=np.int32)
    columns = images.to(device).T
    for start in range(0, len(chosen), BLOCK):
        part = chosen[start : start + BLOCK]
        values = texts[caption_row[part]].to(device) @ columns
        own = torch.from_numpy(np.asarray(caption_image)[part]).long().to(device)
        out[part] = values.scatter_(1, own[:, None], -torch.inf).argmax(dim=1).cpu().numpy()
    return out


def _expand(product: Tensor, lines: np.ndarray, columns: np.ndarray) -> Tensor:
    """A block of distinct rows as one of items; nothing is copied where each row has one item."""
    for axis, local in ((0, lines), (1, columns)):
        if len(local) != product.shape[axis] or (local != np.arange(len(local))).any():
            product = product.index_select(axis, torch.from_numpy(local).to(product.device))
    return product


def per_query_metrics(ranking: Ranking) -> dict[str, np.ndarray]:
    """The metrics that are means over queries, as one value per query [Q] (float64).

    ``recall@k`` is CLIP's: 1 where a right candidate is among the first k, else 0; where equals decide, the probability
    of it. ``mean_rank`` and ``mrr`` are expectations in the same way.
    """
    out = {f"recall@{k}": credit(*ranking.counts, k) for k in RECALL_AT}
    out["mrr"] = expected_reciprocal_rank(*ranking.counts)
    out["mean_rank"] = expected_rank(*ranking.counts)
    out["mean_positive_cosine"] = ranking.cosine.astype(np.float64)
    out["mean_margin"] = ranking.margin.astype(np.float64)
    return out


def decided_by_ties(metric: str, values: np.ndarray, equal: np.ndarray) -> np.ndarray:
    """Whether [Q] a metric's ``values`` rest on the order of equals; ``equal`` [Q] counts those that are wrong."""
    if metric.startswith("recall@"):
        return (values > 0) & (values < 1)
    return (equal > 0) & (metric in ("mrr", "mean_rank"))
