"""The columns of the leaderboard, in tables and on the page: what each number is, and where it comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

Numbers = tuple[float, float | None, float | None]
"""A value and the ends of its 95% interval."""
Place = tuple[str, str, str, str, str]
"""Probe, condition, direction, metric and scope of a row."""


@dataclass(frozen=True)
class Column:
    """One column: where its number comes from, and how it reads.

    Attributes:
        key: of the column, also in the page's script.
        group, title: heading of the group and of the column.
        help: what it says, for the tooltip and the legend of the table.
        probe: the probe that measures it; the page says to run it where it is missing.
        better: "high", "low", or "zero" (the nearer to 0 the better).
        unit: "%", "points" or "".
        metric, condition, delta: the row's, for columns made of rows.
        scalar: the card's, for columns made of cards.
        folded: shown only when its group is opened.
        name: in tables; "" for columns of the page alone, as an empty group is of tables alone. There the ends of the
            interval are in ``NAME low`` and ``NAME high``.
        interval: whether tables for people show it.
    """

    key: str
    group: str
    title: str
    help: str
    probe: str
    better: str
    unit: str
    metric: str = ""
    condition: str = ""
    direction: str = "t2i"
    delta: bool = False
    scalar: str = ""
    folded: bool = False
    name: str = ""
    interval: bool = True

    @property
    def signed(self) -> bool:
        """Whether it is a change, shown with its sign."""
        return self.unit == "points"

    @property
    def label(self) -> str:
        """The title, with the group where it would not be understood without."""
        return f"{self.group}: {self.title}" if self.group in ("First sentence", "Padding") else self.title


def _recall(key: str, title: str, direction: str, k: int, folded: bool = True) -> Column:
    words = "text-to-image" if direction == "t2i" else "image-to-text"
    return Column(
        key, "Retrieval", title, f"{words} recall@{k} on whole captions", "drop-first", "high", "%",
        f"recall@{k}", "full", direction, folded=folded, name=title, interval=k == 1,
    )  # fmt: skip


_COLUMNS = (
    _recall("t1", "T2I R@1", "t2i", 1, False),
    _recall("t5", "T2I R@5", "t2i", 5),
    _recall("t10", "T2I R@10", "t2i", 10),
    _recall("i1", "I2T R@1", "i2t", 1, False),
    _recall("i5", "I2T R@5", "i2t", 5),
    _recall("i10", "I2T R@10", "i2t", 10),
    Column("drop", "First sentence", "Removed", "change of T2I R@1 without the first sentence", "drop-first", "zero",
           "points", "recall@1", "drop-first", delta=True, name="drop first"),
    Column("rely", "First sentence", "Reliance", "share of T2I R@1 that is lost without the first sentence",
           "drop-first", "low", "%", scalar="first-sentence reliance", name="first-sentence reliance"),
    Column("only", "First sentence", "Alone", "T2I R@1 with the first sentence alone", "first-only", "high", "%",
           "recall@1", "first-only", folded=True),
    Column("swap", "Order", "Moved to fourth", "change of T2I R@1 with the first sentence in fourth place", "swap-1-4",
           "zero", "points", "recall@1", "swap-1-4", delta=True, name="swap 1-4"),
    Column("pad1", "Padding", "1 sentence", "change of T2I R@1 behind one padding sentence", "padding", "zero",
           "points", "recall@1", "pad-1", delta=True),
    Column("pad5", "Padding", "5 sentences", "change of T2I R@1 behind five padding sentences", "padding", "zero",
           "points", "recall@1", "pad-5", delta=True),
    Column("focus", "Attention", "Concentration", "attention on the first sentence over its share of tokens; 1 is even",
           "attention", "low", "", scalar="attention concentration"),
    Column("needle", "Attention", "Half-depth",
           "sentence where a wrong fact is noticed half as well as in the first; at the last one asked: there or later",
           "needle", "high", "", scalar="needle half-depth"),
    Column("padding", "", "", "change of T2I R@1, mean over 1 to 5 padding sentences", "padding", "zero", "points",
           scalar="padding change", name="padding change"),
)  # fmt: skip
COLUMNS = tuple(column for column in _COLUMNS if column.group)
"""The page's, in its order."""
GROUPS = tuple(dict.fromkeys(column.group for column in COLUMNS))
_BY_KEY = {column.key: column for column in _COLUMNS}
MEASURES = tuple(_BY_KEY[key] for key in ("t1", "t5", "t10", "i1", "i5", "i10", "drop", "swap", "rely", "padding"))
"""The tables', in theirs."""


@dataclass(frozen=True)
class Told:
    """What the results say of one model on one data set: its rows of recalls, and its card's scalars."""

    rows: dict[Place, tuple[Numbers, Numbers | None]]
    scalars: Mapping[str, Numbers]

    def number(self, column: Column) -> Numbers | None:
        """A column's number: of eligible captions (of all, for whole captions), in percent or points."""
        if column.scalar:
            return self.scalars.get(column.scalar)
        scope = "all" if column.condition == "full" else "eligible"
        place = (column.probe, column.condition, column.direction, column.metric, scope)
        value, change = self.rows.get(place, (None, None))
        found = change if column.delta else value
        if found is None:
            return None
        low, high = (None if end is None else 100 * end for end in found[1:])
        return 100 * found[0], low, high


def told(rows: pd.DataFrame, scalars: pd.DataFrame | None, keys: Sequence[str]) -> dict[tuple[str, ...], Told]:
    """What is told of each model on each data set.

    Args:
        rows: as `clipbias.report.load.all_rows` gives them; the first of a place counts.
        scalars: as `clipbias.results.card.cards` gives them.
        keys: columns of ``rows`` that tell models and data sets apart; "data" and "model" are among them.
    """
    keys = list(keys)
    cards: dict[tuple[str, str], dict[str, Numbers]] = {}
    names = ["data", "model", "scalar", "value", "low", "high"]
    for data, model, scalar, *numbers in () if scalars is None else scalars[names].itertuples(index=False):
        cards.setdefault((data, model), {})[scalar] = _numbers(numbers)
    out = {
        key: Told({}, cards.get((key[keys.index("data")], key[keys.index("model")]), {}))
        for key in rows[keys].drop_duplicates().itertuples(index=False, name=None)
    }
    for line in rows[rows["metric"].str.startswith("recall@")].itertuples(index=False):
        place = (line.probe, line.condition, line.direction, line.metric, line.scope)
        change = None if pd.isna(line.delta) else _numbers((line.delta, line.delta_low, line.delta_high))
        value = _numbers((line.value, line.low, line.high))
        out[tuple(getattr(line, key) for key in keys)].rows.setdefault(place, (value, change))
    return out


def _numbers(three: Sequence[float]) -> Numbers:
    """A value and its ends as plain numbers; an end that is not there as None."""
    low, high = (None if pd.isna(end) else float(end) for end in three[1:])
    return float(three[0]), low, high
