"""Confidence sets for the ranks of models (Mogstad, Romano, Shaikh and Wilhelm 2024)."""

from __future__ import annotations

import numpy as np

from clipbias.stats.clusters import numbered, totals
from clipbias.stats.intervals import LEVEL

DRAWS = 10_000


def rank_sets(values: np.ndarray, cluster: np.ndarray | None = None, seed: int = 0) -> list[tuple[int, int]]:
    """Best and worst rank of each of M models that the data allow, all at once at 95%.

    Every pair's difference is studentised; one critical value, the 95% quantile of the largest of them under their
    joint normal law, serves all pairs. A model's best rank is one more than the number significantly better, its
    worst is M less the number significantly worse. Simultaneous: with 95% all true ranks lie in their sets.

    Args:
        values: [Q, M] credits of M models on the same queries.
        cluster: [Q] the image of each query.
        seed: of the draws from the joint normal law.
    """
    apart = values - values.mean(axis=0)
    if cluster is not None:
        apart = totals(apart, numbered(cluster, len(values)))
    clusters, models = apart.shape
    centre = values.mean(axis=0)
    covariance = apart.T @ apart / len(values) ** 2 * clusters / max(clusters - 1, 1)
    spread = np.diag(covariance)
    errors = np.sqrt(np.maximum(spread[:, None] + spread[None] - 2 * covariance, 0))
    # Models that never differ, or differ once, cannot be told apart: a standard error of one flipped cluster is least.
    errors = np.maximum(errors, np.abs(apart).max(initial=1.0) / len(values))
    np.fill_diagonal(errors, np.inf)
    roots, vectors = np.linalg.eigh(covariance)
    generator = np.random.Generator(np.random.PCG64(seed))
    largest = np.empty(DRAWS)
    for start in range(0, DRAWS, block := max(1, 2**22 // models**2)):
        count = min(block, DRAWS - start)
        drawn = generator.standard_normal((count, models)) @ (vectors * np.sqrt(np.maximum(roots, 0))).T
        largest[start : start + count] = (np.abs(drawn[:, :, None] - drawn[:, None]) / errors).max(axis=(1, 2))
    critical = float(np.quantile(largest, LEVEL))
    better = (centre[None] - centre[:, None]) / errors > critical  # [i, j]: j is better than i
    return [(1 + int(up), models - int(down)) for up, down in zip(better.sum(axis=1), better.sum(axis=0), strict=True)]


def rank_text(best: int, worst: int) -> str:
    """A set as it is shown: "1-3", or "2" where it is one rank."""
    return str(best) if best == worst else f"{best}-{worst}"
