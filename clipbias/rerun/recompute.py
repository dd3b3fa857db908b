"""Rows made again from ``queries.parquet``, and the table itself looked over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from clipbias.probe.rows import rows_from_queries
from clipbias.probe.spec import Probe
from clipbias.rerun.rerun import row_differences
from clipbias.results.record import LEADER, Row, Run, condition_of

if TYPE_CHECKING:
    import pandas as pd

EXACT = 1e-9
"""How far a row made again may be from the row in the file, which holds floats to the last digit."""


def row_faults(run: Run, probe: Probe, rows: Sequence[Row], queries: pd.DataFrame) -> tuple[list[str], list[str]]:
    """What rows say that the queries do not, and what cannot be told from them."""
    if probe.kind != "retrieval":
        return [], [f"rows of the kind {probe.kind!r} are not made from queries alone: `clipbias rerun` compares them"]
    if run.schema == 1:
        return [], ["rows of schema 1 were made by other formulas: run the probe again to have them checked"]
    cut: dict[str, tuple[float, float]] = {}
    faults = []
    for row in rows:
        told = (row.truncated, row.tokens_lost)
        if cut.setdefault(row.condition, told) != told:
            faults.append(f"row {row.condition} {row.direction} {row.metric}: truncated and tokens_lost differ in rows")
        if not 0 <= row.truncated <= 1 or row.tokens_lost < 0 or (row.truncated == 0) != (row.tokens_lost == 0):
            faults.append(
                f"row {row.condition} {row.direction} {row.metric}: {told} of the captions and tokens are cut"
            )
    for condition in queries["condition"].unique():
        cut.setdefault(condition_of(condition), (0.0, 0.0))  # its rows will be reported as missing
    try:
        made = rows_from_queries(probe, queries, cut, run.seed)
    except (ValueError, KeyError, IndexError, ZeroDivisionError) as error:
        return [*faults, f"queries.parquet: no rows can be made of it ({error})"], []
    stored = [replace(row, value=float(row.value)) for row in rows]
    differences, _ = row_differences(made, stored, EXACT)
    said = [line.replace(" was ", " should be ").replace(", now ", ", the row says ") for line in differences]
    said = [line.replace("is not there any more", "is missing").replace("is new", "has no queries") for line in said]
    return [*faults, *said], ["how many captions and tokens were cut is taken as it stands"] if any(
        told[0] for told in cut.values()
    ) else []


def query_faults(run: Run, probe: Probe, queries: pd.DataFrame) -> list[str]:
    """What cannot be in a table of queries: other queries than the data has, impossible counts or similarities."""
    if probe.kind != "retrieval" or run.schema == 1:
        return []
    out = []
    wanted = {name for c in probe.conditions for name in probe.draws(c)}
    seen = list(dict.fromkeys(queries["condition"]))
    if set(seen) - wanted:
        out.append(f"queries: conditions that the spec does not have: {', '.join(sorted(set(seen) - wanted))[:200]}")
    if probe.baseline not in seen:
        out.append(f"queries: the baseline {probe.baseline} is missing")
    for (condition, direction), part in queries.groupby(["condition", "direction"], sort=False):
        where = f"queries of {condition} {direction}"
        count, candidates = (run.captions, run.images) if direction == "t2i" else (run.images, run.captions)
        if sorted(part["query"]) != list(range(count)):
            out.append(f"{where}: not one each of 0 to {count - 1}")
        if direction not in ("t2i", "i2t"):
            out.append(f"{where}: no such direction")
        counts = part[["better", "equal", "right"]]
        if counts.min().min() < 0 or part["right"].min() < 1 or counts.sum(axis=1).max() > candidates:
            out.append(f"{where}: more or fewer candidates than the {candidates} there are")
        if not part["cosine"].between(-1.001, 1.001).all() or not part["margin"].between(-2.001, 2.001).all():
            out.append(f"{where}: similarities beyond 1, or none")
        if (part["cluster"].min() < 0) or (part["cluster"].max() >= run.images):
            out.append(f"{where}: clusters that are no images")
        if LEADER in part:
            leader, behind = part[LEADER], part["better"] > 0
            wrong = ((leader >= 0) != behind) if direction == "t2i" else (leader >= 0)
            if wrong.any() or leader.max() >= candidates or (leader == part["cluster"]).any():
                out.append(f"{where}: leaders contradict the counts of better candidates")
        # The best positive leads exactly where its margin is above 0, and shares the lead where it is 0.
        leads = (part["better"] == 0) & (part["equal"] == 0)
        if ((part["margin"] > 1e-6) & ~leads).any() or ((part["margin"] < -1e-6) & (part["better"] == 0)).any():
            out.append(f"{where}: margins and counts of better candidates contradict each other")
    return out
