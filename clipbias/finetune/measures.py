"""What an ablation's table says of a run: recalls and changes of the paper's probes, and where a model looks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from clipbias.errors import UserError
from clipbias.probe.spec import find_probes
from clipbias.results.card import padding_change
from clipbias.results.folder import Finished, load_runs
from clipbias.results.queries import top1
from clipbias.results.record import Row
from clipbias.stats.intervals import Interval
from clipbias.stats.seeds import from_estimates, over_seeds

SHORT_SPLIT = "short"
"""The split of scenes-2 that is a benchmark of short captions."""


@dataclass(frozen=True)
class Measure:
    """A column of the table.

    Attributes:
        title: its heading.
        probe: the probe that it is read from.
        conditions: of the probe; the mean over them.
        direction: "t2i", "i2t"; "" for numbers that are not of retrieval.
        change: from the probe's baseline, on captions eligible for the condition.
        metric: ``recall@1`` is read from the queries, in percent or points; others from the rows, as they stand.
        split: of the test data; "" for its default.
    """

    title: str
    probe: str
    conditions: tuple[str, ...]
    direction: str = "t2i"
    change: bool = False
    metric: str = "recall@1"
    split: str = ""


def _change(title: str, probe: str, *conditions: str, direction: str = "t2i") -> Measure:
    return Measure(title, probe, conditions, direction, change=True)


PADS = tuple(f"pad-{n}" for n in range(1, 6))
SHIFTS = tuple(f"shift-{n}" for n in (40, 80, 160))
MEASURES = (
    Measure("T2I R@1", "drop-first", ("full",)),
    Measure("I2T R@1", "drop-first", ("full",), "i2t"),
    Measure("short captions, T2I R@1", "first-only", ("full",), split=SHORT_SPLIT),
    _change("drop first, T2I change", "drop-first", "drop-first"),
    _change("swap 1-4, T2I change", "swap-1-4", "swap-1-4"),
    _change("1 to 5 padding sentences, T2I change", "padding", *PADS),
    *(_change(f"{n} padding sentences, T2I change", "padding", f"pad-{n}") for n in range(1, 6)),
    Measure("1 to 5 padding sentences, Page's z", "padding", PADS, metric="page"),
    _change("40 to 160 pads, T2I change", "token-padding", *SHIFTS),
    *(_change(f"{n} pads, T2I change", "token-padding", f"shift-{n}") for n in (40, 80, 160)),
    _change("swap of two, I2T change", "swap", "swap-2", direction="i2t"),
    Measure("first only, I2T", "swap", ("first-only",), "i2t"),
    Measure("needle, half-depth", "needle", ("fillers-0",), "", metric="needle_half_depth"),
    Measure("attention on the first sentence over its tokens", "attention", ("all",), "",
            metric="first_sentence_concentration"),
    Measure("influence of the first sentence", "influence", ("all",), "", metric="first_sentence_influence"),
)  # fmt: skip
"""Of a grid on scenes-2; other test data have those whose probes they can answer."""


def hits(one: Finished, measure: Measure) -> pd.Series:
    """Top-1 credits of a retrieval measure's queries, or their change from the baseline, by query.

    The mean over the measure's conditions, on the queries eligible for all of them.

    Raises:
        UserError: no caption is eligible.
    """
    table = one.queries
    able = table[table["eligible"]]
    columns = [top1(able, condition, measure.direction) for condition in measure.conditions]
    found = pd.concat(columns, axis=1, join="inner").mean(axis=1)
    if found.empty:
        raise UserError(f"probe {measure.probe} has no eligible caption for {', '.join(measure.conditions)}")
    if not measure.change:
        return found
    (probe,) = find_probes(measure.probe)
    return found - top1(table, probe.baseline, measure.direction).loc[found.index]


def value(one: Finished, measure: Measure) -> float:
    """One run's number.

    Raises:
        UserError: the run does not have it.
    """
    if measure.metric == "recall@1":
        return 100 * float(hits(one, measure).mean())
    if measure.metric == "page":
        change = padding_change(one.rows, one.queries)
        if change is None:
            raise UserError(f"probe {measure.probe} ranked no padded captions")
        return float(change.trend or 0.0)  # None: every caption fares alike whatever the number
    return float(_row(one, measure).value)


def apart(
    first: Sequence[Finished],
    second: Sequence[Finished],
    measure: Measure,
    read: Callable[[Finished, Measure], pd.Series] = hits,
) -> tuple[np.ndarray, Interval | None]:
    """``second`` minus ``first``, runs of the same seeds in the same order.

    The interval is over seeds and queries (`clipbias.stats.seeds`): on the same queries where the measure has them,
    else by the two rows' own intervals, as if their captions were not shared. None with too few seeds, and for Page's
    z, of which a difference says nothing.

    Args:
        first, second: the runs.
        measure: what is compared.
        read: `hits`, or what remembers it where runs are compared more than once.

    Returns:
        The difference of each seed [S], and the interval; in the measure's unit.
    """
    if measure.metric == "recall@1":
        before, after = (np.stack([read(one, measure).to_numpy() for one in runs]) for runs in (first, second))
        found = over_seeds(after - before, bound=2.0 if measure.change else 1.0)
        each = 100 * (after - before).mean(axis=1)
        return each, Interval(*(100 * end for end in found)) if found else None
    pairs = [[value(one, measure) for one in runs] for runs in (first, second)]
    each = np.subtract(pairs[1], pairs[0])
    if measure.metric == "page":
        return each, None
    errors = np.array([[_error(one, measure) for one in runs] for runs in (first, second)])
    return each, from_estimates(each, (errors**2).sum(axis=0))


def _error(one: Finished, measure: Measure) -> float:
    """The standard error of a row over captions, from its 95% interval."""
    row = _row(one, measure)
    return 0.0 if row.low is None or row.high is None else (row.high - row.low) / (2 * 1.96)


def _row(one: Finished, measure: Measure) -> Row:
    for row in one.rows:
        if (row.metric, row.condition) == (measure.metric, measure.conditions[0]):
            return row
    raise UserError(f"probe {measure.probe} has no row {measure.metric}")


def finished(folder: Path) -> dict[tuple[str, str], Finished]:
    """The runs below a folder by (probe, "" or `SHORT_SPLIT`).

    Raises:
        UserError: a probe is there twice, on other data or of another model than now: which counts is not known.
    """
    out: dict[tuple[str, str], Finished] = {}
    for one in load_runs([folder]):
        earlier = out.setdefault((one.run.probe, SHORT_SPLIT if one.run.split == SHORT_SPLIT else ""), one)
        if earlier is not one:
            raise UserError(
                f"{one.folder}: {one.run.probe} is there twice, of another version of the data or the model, "
                f"see {earlier.folder}; remove the one that is out of date"
            )
    return out


def answered(runs: Mapping[tuple[str, str], Finished]) -> tuple[Measure, ...]:
    """The measures that the runs of one model, by probe and split, can answer: those whose conditions they have."""
    there = {key: {row.condition for row in one.rows} for key, one in runs.items()}
    return tuple(m for m in MEASURES if there.get((m.probe, m.split), set()).issuperset(m.conditions))
