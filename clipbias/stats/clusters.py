"""Sums over clusters: images with all their captions, the units that are independent."""

from __future__ import annotations

import numpy as np


def numbered(cluster: np.ndarray | None, queries: int) -> np.ndarray:
    """Clusters [Q] as numbers 0..G-1, every one of them used; None: each query its own.

    Whole numbers of about the queries' size are counted, without sorting.
    """
    if cluster is None:
        return np.arange(queries)
    known = np.asarray(cluster)
    if np.issubdtype(known.dtype, np.integer) and len(known) and known.min() >= 0 and known.max() < 8 * queries + 1000:
        used = np.bincount(known) > 0
        return known if used.all() else (np.cumsum(used) - 1)[known]
    return np.asarray(np.unique(known, return_inverse=True)[1])


def totals(values: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Sums [G] or [G, K] of ``values`` [Q] or [Q, K] over clusters ``index`` [Q], as `numbered` gives them."""
    if values.ndim == 1:
        return np.asarray(np.bincount(index, weights=values))
    return np.stack([np.bincount(index, weights=column) for column in values.T], axis=1)
