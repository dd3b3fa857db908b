"""Retrieval metrics: exact ranks in blocks, and the numbers made of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

RECALL_AT = (1, 5, 10)


@dataclass(frozen=True)
class Ranking:
    """Per query [Q]: ``rank`` (1 is best, int64), ``cosine`` with the best positive, ``margin`` to the best negative."""

    rank: np.ndarray
    cosine: np.ndarray
    margin: np.ndarray


def rank_queries(
    queries: Tensor,
    candidates: Tensor,
    query_group: Tensor,
    candidate_group: Tensor,
    candidate_row: Tensor | None = None,
    block: int = 512,
) -> Ranking:
    """Rank each query's best positive among all candidates that are not its positives.

    ``rank = 1 + #{negatives with similarity >= that of the best positive}``: ties count against the
    model, so a constant encoder scores no recall. Memory is ``block`` x C similarities.

    Args:
        queries: [Q, D] float32.
        candidates: [R, D] float32; distinct feature rows.
        query_group: [Q]; candidate c is a positive of query q where the groups are equal.
        candidate_group: [C].
        candidate_row: [C], the feature row of each candidate; candidates that share one tie to the
            bit. Default: one row each, in order.
        block: queries at a time.

    Raises:
        ValueError: NaN features, or a query without a positive.
    """
    if not (bool(torch.isfinite(queries).all()) and bool(torch.isfinite(candidates).all())):
        raise ValueError("features hold NaN or infinite values; they cannot be ranked")
    ranks, cosines, margins = [], [], []
    for start in range(0, len(queries), block):
        similarity = queries[start : start + block] @ candidates.T
        if candidate_row is not None:
            similarity = similarity[:, candidate_row]
        positive = query_group[start : start + block, None] == candidate_group[None]
        best = similarity.masked_fill(~positive, -torch.inf).amax(dim=1)
        if bool(torch.isinf(best).any()):
            raise ValueError(f"query {start + int(torch.isinf(best).nonzero()[0])} has no positive candidate")
        negative = similarity.masked_fill_(positive, -torch.inf)
        ranks.append(1 + (negative >= best[:, None]).sum(dim=1))
        cosines.append(best)
        # With no negative at all the margin has no meaning; it is given as the cosine's full range.
        margins.append((best - negative.amax(dim=1)).clamp(max=2.0))
    return Ranking(*(torch.cat(part).numpy() for part in (ranks, cosines, margins)))


def per_query_metrics(ranking: Ranking) -> dict[str, np.ndarray]:
    """The metrics that are means over queries, as one value a query [Q]."""
    rank = ranking.rank
    out = {f"recall@{k}": (rank <= k).astype(np.float64) for k in RECALL_AT}
    out["mean_rank"] = rank.astype(np.float64)
    out["mrr"] = 1.0 / rank
    out["mean_positive_cosine"] = ranking.cosine.astype(np.float64)
    out["mean_margin"] = ranking.margin.astype(np.float64)
    return out
