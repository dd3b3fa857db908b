"""A model's bias in five numbers, from the results of the probes.

What each says, and what it is for a model without the bias (`docs/probes.md` has the table):

- ``padding slope``: points of T2I R@1 a padding sentence costs: the least-squares slope of R@1 over the padding
  probe's 0 to 5 sentences. Negative is loss.
- ``swap drop``: change of T2I R@1 in points when the first sentence moves to fourth place, on eligible captions.
- ``first-sentence reliance``: 100 * (1 - R@1 without the first sentence / R@1 of the whole caption), in percent,
  T2I, eligible captions.
- ``needle half-depth``: the sentence at which the needle probe's accuracy above chance has fallen to half of the first
  sentence's; the number of places where it never does (here larger is better). Embedded scenes only.
- ``attention concentration``: the first sentence's share of attention over its share of tokens, mean over
  captions, layers and heads.

Intervals are 95%, from the probes' own bootstrap over images.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from clipbias.results.folder import Finished, top1
from clipbias.results.record import Row
from clipbias.stats.bootstrap import ClusterBootstrap, percentile_interval

SCALARS = {
    "padding slope": "padding",
    "swap drop": "swap-1-4",
    "first-sentence reliance": "drop-first",
    "needle half-depth": "needle",
    "attention concentration": "attention",
}
"""Each scalar and the probe that it comes from."""

Scalar = tuple[float, float, float]


def padding_slope(rows: Sequence[Row], queries: pd.DataFrame, seed: int) -> Scalar | None:
    """Least-squares slope of T2I R@1 over the number of padding sentences, in points a sentence.

    None where the probe had no sweep, or ranked no captions.
    """
    at = {row.condition: row.x for row in rows if row.x is not None}
    x = np.array([float(value) for value in at.values()])
    ranked = set(queries.loc[queries["direction"] == "t2i", "condition"])
    if len(set(x)) < 2 or not ranked >= at.keys():
        return None
    weights = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    line = 100 * sum(w * top1(queries, condition) for w, condition in zip(weights, at, strict=True))
    cluster = queries.drop_duplicates(["direction", "query"]).query("direction == 't2i'").set_index("query")["cluster"]
    sampled = ClusterBootstrap(cluster.loc[line.index].to_numpy(), seed).means(
        line.to_numpy()[:, None], np.ones(len(line), dtype=bool)
    )
    low, high = percentile_interval(sampled)
    return float(line.mean()), float(low[0]), float(high[0])


def first_sentence_reliance(queries: pd.DataFrame, seed: int) -> Scalar | None:
    """100 * (1 - R@1 without the first sentence / R@1 with it); None where nothing is found with it either."""
    mine = queries[(queries["condition"] == "drop-first") & (queries["direction"] == "t2i") & queries["eligible"]]
    both = np.column_stack(
        [top1(queries, condition).loc[mine["query"]].to_numpy() for condition in ("full", "drop-first")]
    )
    if not len(both) or not both[:, 0].any():
        return None
    sampled = ClusterBootstrap(mine["cluster"].to_numpy(), seed).means(both, np.ones(len(both), dtype=bool))
    with np.errstate(divide="ignore", invalid="ignore"):
        lost = 100 * (1 - sampled[:, 1] / sampled[:, 0])
    low, high = percentile_interval(lost[np.isfinite(lost)][:, None])
    return float(100 * (1 - both[:, 1].mean() / both[:, 0].mean())), float(low[0]), float(high[0])


def _row(rows: Sequence[Row], metric: str, condition: str, field: str = "value", scale: float = 1.0) -> Scalar | None:
    """A row's number with its interval."""
    prefix = "delta_" if field == "delta" else ""
    for row in rows:
        mine = (row.metric, row.condition, row.scope) == (metric, condition, "eligible")
        if mine and row.direction in ("", "t2i"):
            numbers = (getattr(row, field), getattr(row, f"{prefix}low"), getattr(row, f"{prefix}high"))
            if None not in numbers:
                return tuple(scale * float(n) for n in numbers)  # type: ignore[return-value]
    return None


def _scalar(name: str, one: Finished) -> Scalar | None:
    rows, seed = one.rows, one.run.seed
    if name == "padding slope":
        return padding_slope(rows, one.queries, seed)
    if name == "first-sentence reliance":
        return first_sentence_reliance(one.queries, seed)
    if name == "swap drop":
        return _row(rows, "recall@1", "swap-1-4", "delta", 100.0)
    if name == "needle half-depth":
        return _row(rows, "needle_half_depth", "fillers-0")
    return _row(rows, "first_sentence_concentration", "all")


def cards(runs: Sequence[Finished]) -> pd.DataFrame:
    """The scalars of every model and data set, as far as their probes were run.

    Returns:
        Columns data, model, scalar, value, low, high.

    Raises:
        UserError: damaged results.
    """
    out = []
    for one in runs:
        for name, probe in SCALARS.items():
            if one.run.probe == probe and (found := _scalar(name, one)) is not None:
                out.append([one.run.data, one.run.model, name, *found])
    table = pd.DataFrame(out, columns=["data", "model", "scalar", "value", "low", "high"])
    place = table["scalar"].map(list(SCALARS).index)
    return (
        table.assign(_place=place)
        .sort_values(["data", "model", "_place"])
        .drop(columns="_place")
        .reset_index(drop=True)
    )


def wide_cards(table: pd.DataFrame) -> pd.DataFrame:
    """`cards` for people: a line a data set and model, a column a scalar, ``value (low to high)``."""
    if table.empty:
        return pd.DataFrame(columns=["data", "model", *SCALARS])
    text = table.assign(
        text=[f"{v:.1f} ({low:.1f} to {high:.1f})" for v, low, high in table[["value", "low", "high"]].to_numpy()]
    )
    wide = text.pivot(index=["data", "model"], columns="scalar", values="text")
    return wide.reindex(columns=list(SCALARS)).astype(object).fillna("").reset_index().rename_axis(columns=None)
