"""A results folder from elsewhere: does it hold together, and is it what it says it is?

Everything that can be told without running the model is: the files against their digests, the record against itself,
model and data against what ships with clipbias, and every row against ``queries.parquet``, by the function that made
the rows. What cannot be told is said: the ranks themselves (`clipbias rerun` does), and how many tokens were cut.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clipbias.errors import UserError
from clipbias.models.identity import with_fingerprint
from clipbias.probe.spec import Probe, parse_probe
from clipbias.rerun.known import known_data, known_weights
from clipbias.rerun.recompute import query_faults, row_faults
from clipbias.results.folder import Finished, file_digest, finished, run_folder
from clipbias.results.published import Published, chosen, read_published
from clipbias.results.record import Run, sealed
from clipbias.results.settings import read_settings


@dataclass(frozen=True)
class Checked:
    """What a check of one folder found.

    Attributes:
        folder: the run folder.
        faults: what is wrong, a line each.
        notes: what could not be checked.
        distances: R@1 on whole captions beside what was published.
    """

    folder: Path
    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    distances: tuple[Distance, ...] = field(default=())


@dataclass(frozen=True)
class Distance:
    """A measured R@1 beside a published one, both in percent."""

    direction: str
    measured: float
    low: float
    high: float
    published: float
    protocol: str
    source: str

    @property
    def inside(self) -> bool:
        """Whether the published number, rounded to a tenth as papers do, lies in the measured interval."""
        return self.low - 0.05 <= self.published <= self.high + 0.05


def check_folder(folder: Path) -> Checked:
    """The check of one run folder; a folder that cannot be read is one fault."""
    try:
        one = finished(folder)
        rows, queries = one.rows, one.queries
    except UserError as error:
        return Checked(folder, (str(error),))
    run = one.run
    faults = [*_files(folder, run), *_record(folder, run)]
    notes: list[str] = []
    try:
        probe = parse_probe(run.probe_spec, "probe_spec")
    except UserError as error:
        return Checked(folder, (*faults, str(error)))
    faults += _spec(run, probe)
    for found, said in (known_weights(run), known_data(run)):
        faults += found
        notes += said
    faults += query_faults(run, probe, queries)
    found, said = row_faults(run, probe, rows, queries)
    notes += said
    return Checked(folder, tuple([*faults, *found]), tuple(notes), tuple(distances(one)))


def _files(folder: Path, run: Run) -> Iterator[str]:
    """The folder against the digests in its record, and against the name it should have."""
    extra = sorted(p.name for p in folder.iterdir() if p.name not in ("run.json", "rows.jsonl", "queries.parquet"))
    if extra:
        yield f"the folder also holds {', '.join(map(repr, extra))[:200]}"
    links = [p.name for p in sorted(folder.iterdir()) if p.is_symlink()]
    if links:
        yield f"{', '.join(links)}: a link, not a file"
    if run.schema == 1:
        return
    for name in ("rows.jsonl", "queries.parquet"):
        if run.files.get(name) != file_digest(folder / name):
            yield f"{name} was changed after the run: its SHA-256 is not the one in run.json"
    if run.seal != sealed(run):
        yield "run.json was changed after the run: its seal does not fit"
    wanted = run_folder(Path(), run.model, run.data, run.probe, run.fingerprint, run.data_fingerprint)
    if folder.resolve().parts[-3:] != wanted.parts:
        yield f"the folder should be called {wanted}"


def _record(folder: Path, run: Run) -> Iterator[str]:
    """The record against itself."""
    if run.schema != 1:
        parts = {name: value for name, value in run.identity.items() if name != "fingerprint"}
        if with_fingerprint(parts)["fingerprint"] != run.identity.get("fingerprint"):
            yield "identity: its fingerprint is not that of its parts"
        same: dict[str, Any] = {
            "weights": run.model_fingerprint,
            "precision": run.precision,
            "device": run.device,
            "context_length": run.context_length,
            "options": run.model_options,
        }
        for name, value in same.items():
            if parts.get(name) != value:
                yield f"identity: {name} is {parts.get(name)!r}, elsewhere in the record {value!r}"
    try:
        settings = read_settings(run.settings)
    except UserError as error:
        yield f"settings: {error}"
        return
    if run.command.startswith("clipbias probe") and run.schema != 1 and run.command != settings.command:
        yield f"command: it is not what the settings make: {settings.command}"
    for name in ("precision", "seed"):
        if getattr(settings, name) != getattr(run, name):
            yield f"settings: {name} is {getattr(settings, name)!r}, elsewhere in the record {getattr(run, name)!r}"
    if settings.device.split(":")[0] != run.device:
        yield f"settings: device is {settings.device!r}, elsewhere in the record {run.device!r}"
    if settings.split and settings.split != run.split:
        yield f"settings: split is {settings.split!r}, elsewhere in the record {run.split!r}"
    yield from _time(run)


def _time(run: Run) -> Iterator[str]:
    try:
        created = datetime.datetime.fromisoformat(run.created)
        late = created > datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)
    except (ValueError, TypeError):
        yield f"created: {run.created[:40]!r} is no date with its time zone"
        return
    if late:
        yield f"created: {run.created} is still to come"
    if run.seconds < 0:
        yield f"seconds: {run.seconds}"


def _spec(run: Run, probe: Probe) -> Iterator[str]:
    """The record against the spec that it holds."""
    if probe.name != run.probe:
        yield f"probe: {run.probe!r}, but its spec is of {probe.name!r}"
    if probe.title != run.title:
        yield f"title: {run.title!r}, but its spec says {probe.title!r}"


def distances(one: Finished, numbers: tuple[Published, ...] | None = None) -> list[Distance]:
    """R@1 on whole captions of a run beside every published number of the same model and data set, in percent.

    Protocols are printed and not judged: the same words may mean other captions.
    """
    run = one.run
    model = str(run.settings.get("model") or run.model)
    mine = chosen(read_published() if numbers is None else numbers, run.data, model)
    out = []
    for row in one.rows:
        whole = row.baseline is None and row.metric == "recall@1" and row.scope == "all" and row.low is not None
        if not (whole and row.high is not None and _untouched(one, row.condition)):
            continue
        for n in mine:
            if (n.metric, n.condition, n.unit, n.direction) == ("recall@1", "", "percent", row.direction):
                measured, low, high = (100 * v for v in (row.value, row.low or 0.0, row.high))
                out.append(Distance(row.direction, measured, low, high, n.value, n.protocol, n.cited))
    return sorted(set(out), key=lambda d: (d.direction, math.fabs(d.measured - d.published)))


def _untouched(one: Finished, condition: str) -> bool:
    """Whether a condition of a run leaves captions as they are."""
    probe = parse_probe(one.run.probe_spec, "probe_spec")
    return any(
        c.name == condition and not c.chain and c.captions == "long" and not c.first_tokens and not c.token_padding
        for c in probe.conditions
    )
