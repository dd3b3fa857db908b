"""Retrieval metrics: exact counts in blocks, and the numbers made of them.

Of a query are counted the candidates that are better than its best positive, and those that equal it, to the bit:
positives and others. What equals are worth is decided in `clipbias.stats.ties`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clipbias.errors import UserError
from clipbias.probe.blocks import laid_out
from clipbias.probe.counting import DIRECTIONS, Counts, Share, Work, count
from clipbias.stats.ties import credit, expected_rank, expected_reciprocal_rank

RECALL_AT = (1, 5, 10)
CREDITS = frozenset({*(f"recall@{k}" for k in RECALL_AT), "mrr"})
"""Metrics whose value for a query is a credit in 0..1."""
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


Count = Callable[[Work, Tensor, Tensor, torch.device], Counts]
"""Counts, from the work, the features of the lines [U, D] and of the columns [V, D], and the device."""


def count_alone(work: Work, texts: Tensor, images: Tensor, device: torch.device) -> Counts:
    """Counts of one process that has all columns."""
    rows = texts.to(device)
    share = Share(
        range(len(images)), images.to(device), lambda first: rows[first : first + work.block], lambda part, how: part
    )
    return count(work, share)


def rank_both(
    texts: Tensor,
    images: Tensor,
    caption_image: np.ndarray,
    caption_row: np.ndarray | None = None,
    block: int = BLOCK,
    device: torch.device | str = "cpu",
    count: Count = count_alone,
) -> dict[str, Ranking]:
    """Ranks in both directions in one pass over blocks of the similarity matrix, which is never held whole.

    Args:
        texts: [U, D] float32 features of distinct texts.
        images: [N, D] float32.
        caption_image: [M] the image of each caption; an image may have several.
        caption_row: [M] the row of ``texts`` of each caption; default: one each, in order.
        block: rows and columns of a block; memory is a few times ``4 * block**2`` bytes.
        device: where blocks are computed.
        count: who counts; `clipbias.probe.distributed.count_together` shares it between processes.

    Returns:
        "t2i": a `Ranking` over M captions (candidates: images); "i2t": one over N images (candidates:
        captions, of which any of the image's own counts as found).

    Raises:
        UserError: NaN or infinite features, or an image without a caption.
    """
    for what, features in (("text", texts), ("image", images)):
        if not bool(torch.isfinite(features).all()):
            raise UserError(f"the model's {what} features hold NaN or infinite values; they cannot be ranked")
    owner = np.asarray(caption_image)
    lonely = np.setdiff1d(np.arange(len(images)), owner)
    if len(lonely):
        raise UserError(f"image {lonely[0]} has no caption; it cannot be a query")
    i_rows, columns = laid_out(images, np.arange(len(images)), np.arange(len(images)))
    source = np.arange(len(owner)) if caption_row is None else np.asarray(caption_row)
    # Captions in the order of their images: positives then lie in few blocks, near the diagonal.
    t_rows, lines = laid_out(texts, source, columns.place[owner])
    own = columns.place[owner[lines.items]]
    found = count(Work(lines, columns, own, len(t_rows), texts.shape[1], block), t_rows, i_rows, torch.device(device))
    back = {"t2i": lines.place, "i2t": columns.place}
    return {way: Ranking(*(part[back[way]] for part in found[way])) for way in DIRECTIONS}


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
    step = max(1, BLOCK**2 // max(1, len(images)))  # memory does not grow with the images
    for start in range(0, len(chosen), step):
        part = chosen[start : start + step]
        values = texts[caption_row[part]].to(device) @ columns
        own = torch.from_numpy(np.asarray(caption_image)[part]).long().to(device)
        out[part] = values.scatter_(1, own[:, None], -torch.inf).argmax(dim=1).cpu().numpy()
    return out


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
