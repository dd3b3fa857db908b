"""What is published for a model on a data set, measured here, and where the two differ."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from clipbias.data.loading import dataset_spec
from clipbias.data.roots import configured_root
from clipbias.errors import UserError
from clipbias.models.catalogue import MODELS
from clipbias.models.entry import ModelEntry
from clipbias.models.weights import local_weights
from clipbias.probe.run import run_probe
from clipbias.probe.spec import find_probes, parse_probe
from clipbias.rerun.causes import CAUSES
from clipbias.rerun.rerun import Sessions
from clipbias.results.folder import read_rows
from clipbias.results.published import Published, chosen, read_published
from clipbias.results.record import Row
from clipbias.results.settings import Settings
from clipbias.shipped import WORLD, shipped

PAPER = "2602.22419"
_ROUNDING = 0.05  # published numbers have one decimal
_WHOLE = parse_probe(
    'name = "whole"\ntitle = "Whole captions"\nquestion = "R@1"\nbaseline = "full"\n[[condition]]\nname = "full"\n'
)


@dataclass(frozen=True)
class Compared:
    """One published number beside what was measured, in percent or points."""

    number: Published
    measured: float
    low: float
    high: float

    @property
    def difference(self) -> float:
        """Measured minus published."""
        return self.measured - self.number.value

    @property
    def inside(self) -> bool:
        """Whether the published number, within its rounding, lies in the measured 95% interval."""
        return self.low - _ROUNDING <= self.number.value <= self.high + _ROUNDING


@dataclass(frozen=True)
class Tried:
    """A usual cause: what came of trying it; ``compared`` is empty where nothing could be varied."""

    cause: str
    said: str
    compared: tuple[Compared, ...] = ()


def leaderboard_numbers() -> list[Published]:
    """What `clipbias demo` measured for the models that ship, as the committed leaderboard has it."""
    columns = {
        "T2I R@1": ("t2i", "", "percent"),
        "I2T R@1": ("i2t", "", "percent"),
        "drop first": ("t2i", "drop-first", "points"),
        "swap 1-4": ("t2i", "swap-1-4", "points"),
    }
    out = []
    path = shipped("leaderboards") / f"{WORLD}.csv"
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            for column, (direction, condition, unit) in columns.items():
                if row.get(column):
                    out.append(
                        Published(
                            row["model"], "", row["model"], row["data"], row["protocol"], direction, "recall@1",
                            condition, unit, float(row[column].lstrip("'")), f"leaderboards/{WORLD}.csv",
                            f"column {column}", "clipbias", "",
                        )
                    )  # fmt: skip
    return out


def numbers_for(model: str, data: str) -> list[Published]:
    """The published R@1 of a model on a data set that probes here can measure.

    Raises:
        UserError: none is known.
    """
    everything = [*leaderboard_numbers(), *read_published()]
    mine = [n for n in chosen(everything, data, model) if n.metric == "recall@1" and n.direction and n.registered]
    kept = [n for n in mine if n.condition in ("", "drop-first", "swap-1-4") and n.unit in ("percent", "points")]
    if not kept:
        others = sorted({n.dataset for n in everything if n.registered == model})
        known = f"; there are numbers on {', '.join(others)}" if others else ""
        raise UserError(f"nothing is published for {model} on {data} that can be measured here{known}")
    return kept


def compared(numbers: Sequence[Published], rows: Sequence[Row]) -> list[Compared]:
    """Each number that the rows of a probe measure, beside its row; changes are on eligible captions."""
    out = []
    for n in numbers:
        for row in rows:
            if (row.metric, row.direction) != ("recall@1", n.direction):
                continue
            if n.unit == "percent" and (row.condition, row.scope) == (n.condition or "full", "all"):
                ends = row.value, row.low, row.high
            elif n.unit == "points" and (row.condition, row.scope) == (n.condition, "eligible"):
                ends = row.delta or 0.0, row.delta_low, row.delta_high
            else:
                continue
            value, low, high = (100 * (end if end is not None else ends[0] or 0.0) for end in ends)
            out.append(Compared(n, value, low, high))
    return out


def reproduce(asked: Settings, sessions: Sessions, out: Path) -> list[Compared]:
    """Run what the published numbers of ``asked``'s model and data need, and compare.

    Args:
        asked: model, data and how; its ``probe`` is not looked at.
        sessions: where the model and the data come from.
        out: where the runs are kept; finished ones are reused.

    Raises:
        UserError: nothing published, or the model or the data are not here.
    """
    numbers = numbers_for(asked.model, asked.data)
    found: list[Compared] = []
    for name in dict.fromkeys(["drop-first", *(n.condition for n in numbers if n.condition)]):
        (probe,) = find_probes(name)
        rows = read_rows(run_probe(sessions.of(asked), probe, out, settings=asked.changed(probe=name)))
        mine = [n for n in numbers if n.condition == name or (not n.condition and name == "drop-first")]
        found += compared(mine, rows)
    return found


def missed(found: Sequence[Compared]) -> list[Compared]:
    """Numbers on whole captions of a direction where no source's number lies in the interval."""
    whole = [c for c in found if not c.number.condition]
    met = {c.number.direction for c in whole if c.inside}
    return [c for c in whole if c.number.direction not in met]


def try_causes(
    asked: Settings, open_missed: Sequence[Compared], sessions: Callable[[], Sessions], out: Path
) -> Iterator[Tried]:
    """The usual causes in order, each tested by a rerun on whole captions where a setting can be changed."""
    numbers = [c.number for c in open_missed]
    encoder = sessions().of(asked).encoder
    for cause in CAUSES:
        changed = cause.change(asked, encoder)
        if changed is None:
            yield Tried(cause.name, cause.known(asked, encoder))
            continue
        try:
            rows = read_rows(run_probe(sessions().of(changed), _WHOLE, out, settings=changed.changed(probe="whole")))
        except UserError as error:
            yield Tried(cause.name, f"could not be tried: {error}")
            continue
        yield Tried(cause.name, changed.command, tuple(compared(numbers, rows)))


@dataclass(frozen=True)
class Needed:
    """One model on one data set of the paper: whether it can be run here, what is missing, and what it would cost."""

    model: str
    data: str
    missing: tuple[str, ...]
    cost: str


def paper_plan() -> list[Needed]:
    """Every registered model and data set that the paper has numbers for."""
    pairs = dict.fromkeys(
        (n.registered, n.dataset)
        for n in read_published()
        if PAPER in n.source and n.registered and n.metric == "recall@1"
    )
    return [_needed(model, data) for model, data in pairs]


def _needed(model: str, data: str) -> Needed:
    entry, spec = MODELS[model], dataset_spec(data)
    missing = []
    if isinstance(entry, ModelEntry) and local_weights(entry, check=False) is None:
        missing.append(f"weights: {entry.where}")
    if spec.needs_root and configured_root(data) is None:
        missing.append(f"data: {data} ({spec.homepage}; `clipbias data get {data} --list` says how)")
    images, captions = spec.expected(spec.default_split, {}) or (0, 0)
    conditions = sum(len(p.conditions) for p in find_probes("paper"))
    size = entry.size if isinstance(entry, ModelEntry) else ""
    download = f"download {size}; " if missing and missing[0].startswith("weights") and size else ""
    cost = f"{download}{images:,} images and at most {conditions * captions:,} texts to encode for every figure"
    return Needed(model, data, tuple(missing), cost)
