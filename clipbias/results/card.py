"""A model's bias in five numbers, from the results of the probes.

What each says, and what it is for a model without the bias (`docs/probes.md` has the table):

- ``padding change``: change of T2I R@1 in points, mean over 1 to 5 padding sentences, against none. Page's test says
  whether there is a trend over the number of sentences besides.
- ``swap drop``: change of T2I R@1 in points when the first sentence moves to fourth place, on eligible captions.
- ``first-sentence reliance``: 100 * (1 - R@1 without the first sentence / R@1 of the whole caption), in percent,
  T2I, eligible captions.
- ``needle half-depth``: the sentence at which the needle probe's accuracy above chance has fallen to half of the first
  sentence's; the number of places where it never does (here larger is better). Data that know facts only.
- ``attention concentration``: the first sentence's share of attention over its share of tokens, mean over
  captions, layers and heads.

Intervals are 95%, over images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from clipbias.results.folder import Finished
from clipbias.results.queries import top1
from clipbias.results.record import Row
from clipbias.stats.intervals import difference, ratio
from clipbias.stats.trend import page

SCALARS = {
    "padding change": "padding",
    "swap drop": "swap-1-4",
    "first-sentence reliance": "drop-first",
    "needle half-depth": "needle",
    "attention concentration": "attention",
}
"""Each scalar and the probe that it comes from."""


class Scalar(NamedTuple):
    """A number of the card with its interval.

    ``trend``, ``p``: z and p of the trend test that goes with it, if any. ``open``: the value stands at the end of
    what was measured, and means that or more.
    """

    value: float
    low: float
    high: float
    trend: float | None = None
    p: float | None = None
    open: bool = False


def _credits(queries: pd.DataFrame, conditions: Sequence[str], chosen: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """T2I top-1 credits [Q, K] of conditions on ``chosen`` queries, and the image of each."""
    columns = [top1(queries, condition).reindex(chosen.index).to_numpy() for condition in conditions]
    return np.column_stack(columns), chosen.to_numpy()


def padding_change(rows: Sequence[Row], queries: pd.DataFrame) -> Scalar | None:
    """Mean over the padded conditions of their T2I R@1 minus that of the unpadded one, in points; p of Page's test.

    None where the probe had no sweep, or ranked no captions.
    """
    x = {row.condition: row.x for row in rows if row.x is not None}
    at = sorted(x, key=lambda condition: x[condition] or 0.0)
    baseline = next((row.baseline for row in rows if row.baseline is not None), at[0] if at else "")
    t2i = queries[queries["direction"] == "t2i"]
    if len(at) < 2 or baseline not in at or not set(t2i["condition"]) >= set(at):
        return None
    chosen = t2i[t2i["condition"] == baseline].set_index("query")["cluster"]
    hits, cluster = _credits(queries, at, chosen)
    padded = np.array([condition != baseline for condition in at])
    base = hits[:, at.index(baseline)]
    found = difference(hits[:, padded].mean(axis=1) - base, cluster)
    trend = page(hits[:, padded], cluster) if padded.sum() >= 3 else None
    return Scalar(100 * found.value, 100 * found.low, 100 * found.high, *(trend or ()))


def first_sentence_reliance(queries: pd.DataFrame) -> Scalar | None:
    """100 * (1 - R@1 without the first sentence / R@1 with it); None where nothing is found with it either."""
    mine = queries[(queries["condition"] == "drop-first") & (queries["direction"] == "t2i") & queries["eligible"]]
    hits, cluster = _credits(queries, ("full", "drop-first"), mine.set_index("query")["cluster"])
    if not len(hits) or not hits[:, 0].any():
        return None
    kept = ratio(hits[:, 1], hits[:, 0], cluster)
    return Scalar(100 * (1 - kept.value), 100 * (1 - kept.high), 100 * (1 - kept.low))


def _row(rows: Sequence[Row], metric: str, condition: str, field: str = "value", scale: float = 1.0) -> Scalar | None:
    """A row's number with its interval."""
    prefix = "delta_" if field == "delta" else ""
    for row in rows:
        mine = (row.metric, row.condition, row.scope) == (metric, condition, "eligible")
        if mine and row.direction in ("", "t2i"):
            numbers = (getattr(row, field), getattr(row, f"{prefix}low"), getattr(row, f"{prefix}high"))
            if None not in numbers:
                value, low, high = (scale * float(n) for n in numbers)
                return Scalar(value, low, high)
    return None


def _scalar(name: str, one: Finished) -> Scalar | None:
    if name == "padding change":
        return padding_change(one.rows, one.queries)
    if name == "first-sentence reliance":
        return first_sentence_reliance(one.queries)
    if name == "swap drop":
        return _row(one.rows, "recall@1", "swap-1-4", "delta", 100.0)
    if name == "needle half-depth":
        found = _row(one.rows, "needle_half_depth", "fillers-0")
        places = [row.x for row in one.rows if row.metric == "needle_accuracy" and row.x is not None]
        return found and found._replace(open=found.value >= max(places, default=np.inf))
    return _row(one.rows, "first_sentence_concentration", "all")


def cards(runs: Sequence[Finished]) -> pd.DataFrame:
    """The scalars of every model and data set, as far as their probes were run.

    Returns:
        Columns data, model, scalar, value, low, high; trend and p (z and p of Page's test, for the padding change);
        open (the value means that or more).

    Raises:
        UserError: damaged results.
    """
    out = []
    for one in runs:
        for name, probe in SCALARS.items():
            if one.run.probe == probe and (found := _scalar(name, one)) is not None:
                out.append([one.run.data, one.run.model, name, *found])
    table = pd.DataFrame(out, columns=["data", "model", "scalar", "value", "low", "high", "trend", "p", "open"])
    place = table["scalar"].map(list(SCALARS).index)
    return (
        table.assign(_place=place)
        .sort_values(["data", "model", "_place"])
        .drop(columns="_place")
        .reset_index(drop=True)
    )


def ends_text(low: float, high: float, sign: str = "") -> str:
    """An interval for people, to one digit: "1.0 to 2.5", or with an open end "open to 2.5"; "" where there is none."""
    if np.isnan(low) or np.isnan(high):
        return ""
    return " to ".join(f"{end:{sign}.1f}" if np.isfinite(end) else "open" for end in (low, high))


def wide_cards(table: pd.DataFrame) -> pd.DataFrame:
    """`cards` for people: a line per data set and model, a column per scalar, ``value (low to high)``."""
    if table.empty:
        return pd.DataFrame(columns=["data", "model", *SCALARS])
    cells = []
    for value, low, high, z, p, more in table[["value", "low", "high", "trend", "p", "open"]].astype(float).to_numpy():
        trend = (
            "" if np.isnan(p) else f"; {'rising' if z > 0 else 'falling'}, p {'<0.001' if p < 0.001 else f'{p:.3f}'}"
        )
        cells.append(f"{value:.1f}{' or more' if more else ''} ({ends_text(low, high)}{trend})")
    wide = table.assign(text=cells).pivot(index=["data", "model"], columns="scalar", values="text")
    return wide.reindex(columns=list(SCALARS)).astype(object).fillna("").reset_index().rename_axis(columns=None)
