"""The page's leaderboard: columns in groups, a cell with its interval, and rank sets for what can be tested."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from clipbias.results.folder import Finished, top1
from clipbias.results.record import Row
from clipbias.stats.ranksets import rank_sets, rank_text


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

    @property
    def label(self) -> str:
        """The title, with the group where it would not be understood without."""
        return f"{self.group}: {self.title}" if self.group in ("First sentence", "Padding") else self.title


def _recall(key: str, title: str, direction: str, k: int, folded: bool = True) -> Column:
    words = "text-to-image" if direction == "t2i" else "image-to-text"
    return Column(
        key, "Retrieval", title, f"{words} recall@{k} on whole captions", "drop-first", "high", "%",
        f"recall@{k}", "full", direction, folded=folded,
    )  # fmt: skip


COLUMNS = (
    _recall("t1", "T2I R@1", "t2i", 1, False),
    _recall("t5", "T2I R@5", "t2i", 5),
    _recall("t10", "T2I R@10", "t2i", 10),
    _recall("i1", "I2T R@1", "i2t", 1, False),
    _recall("i5", "I2T R@5", "i2t", 5),
    _recall("i10", "I2T R@10", "i2t", 10),
    Column("drop", "First sentence", "Removed", "change of T2I R@1 without the first sentence", "drop-first", "zero",
           "points", "recall@1", "drop-first", delta=True),
    Column("rely", "First sentence", "Reliance", "share of T2I R@1 that is lost without the first sentence",
           "drop-first", "low", "%", scalar="first-sentence reliance"),
    Column("only", "First sentence", "Alone", "T2I R@1 with the first sentence alone", "first-only", "high", "%",
           "recall@1", "first-only", folded=True),
    Column("swap", "Order", "Moved to fourth", "change of T2I R@1 with the first sentence in fourth place", "swap-1-4",
           "zero", "points", "recall@1", "swap-1-4", delta=True),
    Column("pad1", "Padding", "1 sentence", "change of T2I R@1 behind one padding sentence", "padding", "zero",
           "points", "recall@1", "pad-1", delta=True),
    Column("pad5", "Padding", "5 sentences", "change of T2I R@1 behind five padding sentences", "padding", "zero",
           "points", "recall@1", "pad-5", delta=True),
    Column("focus", "Attention", "Concentration", "attention on the first sentence over its share of tokens; 1 is even",
           "attention", "low", "", scalar="attention concentration"),
    Column("needle", "Attention", "Half-depth",
           "sentence where a wrong fact is noticed half as well as in the first; at the last one asked: there or later",
           "needle", "high", "", scalar="needle half-depth"),
)  # fmt: skip
GROUPS = tuple(dict.fromkeys(column.group for column in COLUMNS))


@dataclass(frozen=True)
class Cell:
    """A number with its 95% interval, in the column's unit; ``rank`` where models were tested against each other."""

    value: float
    low: float | None
    high: float | None
    rank: str = ""


@dataclass(frozen=True)
class Line:
    """One model on one data set."""

    data: str
    model: str
    context: int
    cells: dict[str, Cell]


def board_lines(runs: Sequence[Finished], scalars: pd.DataFrame, order: Sequence[str]) -> list[Line]:
    """The lines of the leaderboard, by data set, the highest T2I R@1 first; then in the order of the models.

    Args:
        runs: as `load_runs` gives them.
        scalars: as `clipbias.results.card.cards` gives them.
        order: of the models.
    """
    by_model: dict[tuple[str, str], list[Finished]] = {}
    for one in runs:
        by_model.setdefault((one.run.data, one.run.model), []).append(one)
    ranks = _ranks(runs)
    known = {
        (data, model, name): (value, low, high)
        for data, model, name, value, low, high in scalars[
            ["data", "model", "scalar", "value", "low", "high"]
        ].itertuples(index=False)
    }
    lines = []
    for (data, model), mine in by_model.items():
        rows = [row for one in mine for row in one.rows]
        cells = {}
        for column in COLUMNS:
            found = known.get((data, model, column.scalar)) if column.scalar else _of_rows(rows, column)
            if found is not None:
                cells[column.key] = Cell(*_plain(found), ranks.get((data, column.key, model), ""))
        if cells:
            lines.append(Line(data, model, mine[0].run.context_length, cells))

    def place(line: Line) -> tuple[str, float, int]:
        first = line.cells.get("t1")
        return line.data, -(first.value if first else -1.0), list(order).index(line.model)

    return sorted(lines, key=place)


def _plain(found: tuple[float, float | None, float | None]) -> tuple[float, float | None, float | None]:
    value, low, high = found
    ends = [None if end is None or not np.isfinite(end) else float(end) for end in (low, high)]
    return float(value), ends[0], ends[1]


def _of_rows(rows: Sequence[Row], column: Column) -> tuple[float, float | None, float | None] | None:
    """A column's number of eligible captions (of all, for whole captions), in percent or points."""
    scope = "all" if column.condition == "full" else "eligible"
    for row in rows:
        wanted = (column.probe, column.condition, column.direction, column.metric, scope)
        if (row.probe, row.condition, row.direction, row.metric, row.scope) == wanted:
            numbers = (row.delta, row.delta_low, row.delta_high) if column.delta else (row.value, row.low, row.high)
            if numbers[0] is None:
                return None
            low, high = (None if end is None else 100 * end for end in numbers[1:])
            return 100 * numbers[0], low, high
    return None


def paired(runs: Sequence[Finished], data: str, column: Column) -> tuple[list[str], np.ndarray, np.ndarray] | None:
    """What a column's number is the mean of, for every model that ran the same queries.

    Returns:
        Models, their values [Q, M] as fractions (hits, or changes from the probe's baseline), and the image of each
        query [Q]; None for columns that are no mean, and for fewer than two models.
    """
    if column.metric != "recall@1":
        return None
    found: dict[str, pd.Series] = {}
    cluster, key = None, None
    for one in runs:
        if (one.run.data, one.run.probe) != (data, column.probe):
            continue
        this = (one.run.data_fingerprint, one.run.probe_spec)
        key = key or this
        if this != key:
            continue
        queries = one.queries
        mine = queries[(queries["condition"] == column.condition) & (queries["direction"] == column.direction)]
        mine = mine[mine["eligible"]].set_index("query") if column.condition != "full" else mine.set_index("query")
        if mine.empty:
            continue
        values = top1(queries, column.condition, column.direction).loc[mine.index]
        if column.delta:
            baseline = next((row.baseline for row in one.rows if row.baseline), None)
            if baseline is None:
                continue
            values = values - top1(queries, baseline, column.direction).reindex(mine.index)
        found[one.run.model] = values
        cluster = mine["cluster"] if cluster is None else cluster
    if len(found) < 2 or cluster is None:
        return None
    table = pd.concat(found, axis=1).dropna()
    return list(found), table.to_numpy(), cluster.loc[table.index].to_numpy()


def _ranks(runs: Sequence[Finished]) -> dict[tuple[str, str, str], str]:
    """Rank sets of every data set, testable column and model: (data, column, model) -> "1-3"."""
    out = {}
    for data in sorted({one.run.data for one in runs}):
        for column in COLUMNS:
            group = paired(runs, data, column)
            if group is not None and len(group[1]):
                models, values, cluster = group
                # A change nearer to 0 is better; all changes of interest are losses, so the higher is the better.
                for model, (best, worst) in zip(models, rank_sets(values, cluster), strict=True):
                    out[data, column.key, model] = rank_text(best, worst).replace("-", "–")
    return out
