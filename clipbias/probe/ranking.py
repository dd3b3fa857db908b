"""Retrieval metrics: exact counts in blocks, and the numbers made of them.

Of a query are counted the candidates that are better than its best positive, and those that equal it, to the bit:
positives and others. What equals are worth is decided in `clipbias.stats.ties`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b

import numpy as np
import torch
from torch import Tensor

from clipbias.errors import UserError
from clipbias.models.fp32 import full_fp32
from clipbias.probe.blocks import laid_out
from clipbias.probe.counting import DIRECTIONS, Counts, Share, Work, count
from clipbias.stats.ties import credit, expected_rank, expected_reciprocal_rank

RECALL_AT = (1, 5, 10)
CREDITS = frozenset({*(f"recall@{k}" for k in RECALL_AT), "mrr"})
"""Metrics whose value for a query is a credit in 0..1."""
BLOCK = 2048
"""Rows and columns of one block of similarities: 16 MiB in float32."""
_PART = 8192
"""Rows of features that are looked at together."""
KEPT = 256 * 2**20
"""Bytes of rankings that a session keeps: 6 at 10^6 images, which is as far back as a probe of the paper's suite asks;
all of them on the known data sets."""


@dataclass(frozen=True)
class Ranking:
    """Per query [Q].

    Attributes:
        better: candidates, no positives, whose similarity is above the best positive's (int32).
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


class LastRankings:
    """The rankings asked for last, as many as fit: what the probes of a suite share is ranked once."""

    def __init__(self, most: int = KEPT) -> None:
        """``most``: bytes; the last one is kept in any case."""
        self._most = most
        self._kept: dict[bytes, dict[str, Ranking]] = {}

    def get(self, numbers: np.ndarray, make: Callable[[], dict[str, Ranking]]) -> dict[str, Ranking]:
        """The ranking of the texts of these ``numbers`` [M]; ``make`` makes it where it is not kept."""
        key = blake2b(numbers.tobytes(), digest_size=32).digest()
        self._kept[key] = found = self._kept.pop(key, None) or make()
        while len(self._kept) > 1 and sum(map(_held, self._kept.values())) > self._most:
            del self._kept[next(iter(self._kept))]
        return found


def _held(rankings: dict[str, Ranking]) -> int:
    """Bytes."""
    return sum(part.nbytes for ranking in rankings.values() for part in vars(ranking).values())


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
        # In parts: the test makes a copy of what it looks at.
        if not all(bool(torch.isfinite(part).all()) for part in features.split(_PART)):
            raise UserError(f"the model's {what} features hold NaN or infinite values; they cannot be ranked")
    owner = np.asarray(caption_image)
    lonely = np.flatnonzero(np.bincount(owner, minlength=len(images)) == 0)
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


@full_fp32()
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


def _recall(ranking: Ranking, k: int) -> np.ndarray:
    return credit(*ranking.counts, k)


METRICS: dict[str, Callable[[Ranking], np.ndarray]] = {
    **{f"recall@{k}": partial(_recall, k=k) for k in RECALL_AT},
    "mrr": lambda ranking: expected_reciprocal_rank(*ranking.counts),
    "mean_rank": lambda ranking: expected_rank(*ranking.counts),
    "mean_positive_cosine": lambda ranking: ranking.cosine.astype(np.float64),
    "mean_margin": lambda ranking: ranking.margin.astype(np.float64),
}
"""The metrics that are means over queries: their value for each query [Q] (float64).

``recall@k`` is CLIP's: 1 where a right candidate is among the first k, else 0; where equals decide, the probability of
it. ``mean_rank`` and ``mrr`` are expectations in the same way.
"""


def per_query_metrics(ranking: Ranking) -> dict[str, np.ndarray]:
    """All of `METRICS` for each query [Q]."""
    return {name: of(ranking) for name, of in METRICS.items()}


def decided_by_ties(metric: str, values: np.ndarray, equal: np.ndarray) -> np.ndarray:
    """Whether [Q] a metric's ``values`` rest on the order of equals; ``equal`` [Q] counts those that are wrong."""
    if metric.startswith("recall@"):
        return (values > 0) & (values < 1)
    return (equal > 0) & (metric in ("mrr", "mean_rank"))
