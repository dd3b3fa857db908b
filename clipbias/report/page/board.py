"""The page's leaderboard: columns in groups, a cell with its interval, and rank sets for what can be tested."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from clipbias.report.columns import COLUMNS, Column, Numbers, told
from clipbias.results.folder import Finished
from clipbias.results.queries import top1
from clipbias.stats.ranksets import rank_sets, rank_text


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


def board_lines(
    rows: pd.DataFrame, runs: Sequence[Finished], scalars: pd.DataFrame, order: Sequence[str]
) -> list[Line]:
    """The lines of the leaderboard, by data set, the highest T2I R@1 first; then in the order of the models.

    Args:
        rows: as `clipbias.report.load.all_rows` gives them.
        runs: the same runs, as `load_runs` gives them.
        scalars: as `clipbias.results.card.cards` gives them.
        order: of the models.
    """
    ranks = _ranks(runs)
    contexts = rows.drop_duplicates(["data", "model"]).set_index(["data", "model"])["context"]
    lines = []
    for (data, model), found in told(rows, scalars, ("data", "model")).items():
        cells = {
            column.key: _cell(number, ranks.get((data, column.key, model), ""))
            for column in COLUMNS
            if (number := found.number(column)) is not None
        }
        if cells:
            lines.append(Line(data, model, int(contexts[data, model]), cells))

    def place(line: Line) -> tuple[str, float, int]:
        first = line.cells.get("t1")
        return line.data, -(first.value if first else -1.0), list(order).index(line.model)

    return sorted(lines, key=place)


def _cell(number: Numbers, rank: str) -> Cell:
    """A cell of the page, which shows no end of an interval that is open."""
    low, high = (None if end is None or not np.isfinite(end) else end for end in number[1:])
    return Cell(number[0], low, high, rank)


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
