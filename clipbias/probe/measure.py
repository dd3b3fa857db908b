"""Rows of probes that are not retrieval: means over captions or trials, with their intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from torch import Tensor

from clipbias.probe.positions import by_sentence
from clipbias.results.record import QUERY_COLUMNS, Row
from clipbias.stats.intervals import METHODS, mean, proportion


def mean_rows(
    cluster: np.ndarray,
    values: np.ndarray,
    *,
    probe: str,
    condition: str,
    order: int,
    metrics: Sequence[str],
    xs: Sequence[float | None],
    credits: bool = False,
) -> list[Row]:
    """One row per column of ``values`` [N, K]: its mean over the N entries that are no NaN, with its 95% interval.

    Args:
        cluster: [N] the image of each entry.
        values: NaN where an entry has no value.
        probe, condition, order: as in `Row`.
        metrics, xs: [K] the metric and the x of each column.
        credits: values are hits, or parts of one, in 0..1.
    """
    rows = []
    for column, (metric, x) in enumerate(zip(metrics, xs, strict=True)):
        chosen = ~np.isnan(values[:, column])
        if not chosen.any():
            continue
        mine, images = values[chosen, column], cluster[chosen]
        found = (proportion if credits else mean)(mine, images)
        rows.append(
            Row(
                probe=probe,
                condition=condition,
                order=order,
                x=x,
                baseline=None,
                direction="",
                metric=metric,
                scope="eligible",
                value=float(mine.mean()),
                low=found.low if found else None,
                high=found.high if found else None,
                method=METHODS["proportion" if credits else "mean"] if found else "",
                base=None,
                delta=None,
                delta_low=None,
                delta_high=None,
                p=None,
                p_holm=None,
                n=len(mine),
                clusters=len(np.unique(images)),
                ties=int(((mine > 0) & (mine < 1)).sum()) if credits else 0,
                eligible=len(mine),
                affected=len(mine),
                truncated=0.0,
                tokens_lost=0.0,
            )
        )
    return rows


def curve_means(
    cluster: np.ndarray, curve: np.ndarray, probe: str, metric: str, order: int, condition: str = "all"
) -> list[Row]:
    """`mean_rows` of a curve [N, K], its x from 1."""
    xs = [float(k + 1) for k in range(curve.shape[1])]
    return mean_rows(cluster, curve, probe=probe, condition=condition, order=order, metrics=[metric] * len(xs), xs=xs)


def sentence_rows(
    cluster: np.ndarray,
    weights: Sequence[np.ndarray],
    sentences: Sequence[np.ndarray],
    probe: str,
    metric: str,
    order: int,
) -> list[Row]:
    """``<metric>_by_sentence``, condition ``sentences-S``: curves of captions of S sentences, see `by_sentence`."""
    rows = []
    for count, (numbers, curve) in by_sentence(weights, sentences).items():
        rows += curve_means(cluster[numbers], curve, probe, f"{metric}_by_sentence", order, f"sentences-{count}")
    return rows


def preferred(right: Tensor, wrong: Tensor) -> np.ndarray:
    """1 where the right text is nearer, 0.5 where both are as near [N]; chance is 0.5."""
    return (right > wrong).double().numpy() + 0.5 * (right == wrong).double().numpy()


def spread(count: int, most: int) -> np.ndarray:
    """At most ``most`` of ``count`` numbers from 0, the first and the last among them, as even as can be."""
    return np.linspace(0, count - 1, min(most, count)).astype(int)


def token_shares(sentences: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Equal weights [L] of each caption's tokens: what a share by sentence is compared with."""
    return [np.full(len(owner), 1 / max(1, len(owner))) for owner in sentences]


def no_queries() -> pd.DataFrame:
    """The per-query table of a probe that ranks nothing."""
    return pd.DataFrame(columns=list(QUERY_COLUMNS))
