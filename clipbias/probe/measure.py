"""Rows of probes that are not retrieval: means over captions or trials, with cluster-bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from clipbias.results.record import QUERY_COLUMNS, Row
from clipbias.stats.bootstrap import ClusterBootstrap, percentile_interval


def mean_rows(
    bootstrap: ClusterBootstrap,
    values: np.ndarray,
    *,
    probe: str,
    condition: str,
    order: int,
    metrics: Sequence[str],
    xs: Sequence[float | None],
) -> list[Row]:
    """One row a column of ``values`` [N, K]: its mean over the N entries that are no NaN, with its 95% interval.

    Args:
        bootstrap: over the clusters of the N entries.
        values: NaN where an entry has no value.
        probe, condition, order: as in `Row`.
        metrics, xs: [K] the metric and the x of each column.
    """
    rows = []
    for column, (metric, x) in enumerate(zip(metrics, xs, strict=True)):
        chosen = ~np.isnan(values[:, column])
        if not chosen.any():
            continue
        low, high = percentile_interval(bootstrap.means(np.nan_to_num(values[:, column : column + 1]), chosen))
        rows.append(
            Row(
                probe=probe, condition=condition, order=order, x=x, baseline=None, direction="", metric=metric,
                scope="eligible", value=float(values[chosen, column].mean()), low=float(low[0]), high=float(high[0]),
                delta=None, delta_low=None, delta_high=None, p_mcnemar=None, p_holm=None, n=int(chosen.sum()),
                eligible=int(chosen.sum()), affected=int(chosen.sum()), truncated=0.0, tokens_lost=0.0,
            )
        )  # fmt: skip
    return rows


def curve_means(
    bootstrap: ClusterBootstrap, curve: np.ndarray, probe: str, metric: str, order: int, condition: str = "all"
) -> list[Row]:
    """`mean_rows` of a curve [N, K], its x from 1."""
    xs = [float(k + 1) for k in range(curve.shape[1])]
    return mean_rows(bootstrap, curve, probe=probe, condition=condition, order=order, metrics=[metric] * len(xs), xs=xs)


def no_queries() -> pd.DataFrame:
    """The per-query table of a probe that ranks nothing."""
    return pd.DataFrame(columns=list(QUERY_COLUMNS))
