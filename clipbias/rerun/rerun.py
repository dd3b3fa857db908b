"""A finished run, run again from its record and compared."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from clipbias.data.dataset import RetrievalDataset
from clipbias.data.kept import made_once
from clipbias.errors import UserError
from clipbias.models.encoder import Encoder
from clipbias.probe.asked import open_dataset, open_encoder
from clipbias.probe.run import run_probe
from clipbias.probe.session import Session
from clipbias.probe.spec import parse_probe
from clipbias.probe.store import EmbeddingStore
from clipbias.results.folder import read_rows, read_run
from clipbias.results.record import Row, Run
from clipbias.results.settings import OF_DATA, OF_MODEL, Settings, read_settings

TOLERANCE = 0.0025
_NAMED = ("probe", "condition", "order", "x", "baseline", "direction", "metric", "scope")
_SINCE_SCHEMA_1 = ("value", "n", "eligible", "affected", "truncated", "tokens_lost")
"""What rows of schema 1 and of today are comparable in; intervals and tests follow other formulas now."""
_SHOWN = 20


@dataclass(frozen=True)
class Rerun:
    """What came of running one record again.

    Attributes:
        folder: the run that was run again.
        command: the command line that does it.
        differences: what differs, a line each; none where the run is reproduced.
        notes: what differs and may: versions, date, device name.
        rows, largest: rows compared, and the largest difference of a value or interval end.
    """

    folder: Path
    command: str
    differences: tuple[str, ...]
    notes: tuple[str, ...]
    rows: int
    largest: float

    @property
    def verdict(self) -> str:
        """In words: equal, equal within tolerance, or how many differences."""
        if self.differences:
            return f"{len(self.differences)} difference{'s' * (len(self.differences) > 1)}"
        return f"equal, {self.rows} rows" + (f", largest difference {self.largest:.2g}" if self.largest else "")


class Sessions:
    """Sessions of models and data sets, each loaded once for runs in a row."""

    def __init__(
        self,
        store: EmbeddingStore | None = None,
        progress: Callable[[str, int, int], None] | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        self._store, self._progress, self._trust = store, progress, trust_remote_code
        self._asked: Settings | None = None
        self._session: Session | None = None
        self._data: dict[str, RetrievalDataset] = {}
        self._encoder: tuple[str, Encoder] | None = None

    def of(self, settings: Settings) -> Session:
        """The session that settings ask for; the last one where only the probe differs."""
        asked = settings.changed(probe="")
        if self._session is None or asked != self._asked:
            part = str(settings.part(OF_DATA))
            if part not in self._data:
                self._data = {part: made_once(open_dataset(settings))}
            more: dict[str, Any] = {} if self._progress is None else {"progress": self._progress}
            self._session = Session(
                self._encoder_of(settings), self._data[part], settings.seed, store=self._store, **more
            )
            self._asked = asked
        return self._session

    def _encoder_of(self, settings: Settings) -> Encoder:
        part = str(settings.part(OF_MODEL))
        if self._encoder is None or self._encoder[0] != part:
            self._encoder = (part, open_encoder(settings, self._trust))
        return self._encoder[1]


def rerun(
    folder: Path,
    sessions: Sessions,
    changes: dict[str, Any] | None = None,
    out: Path | None = None,
    tolerance: float = TOLERANCE,
) -> Rerun:
    """Run the run in ``folder`` again, as recorded but for ``changes`` of its settings, and compare.

    Args:
        folder: a run folder.
        sessions: where the model and the data come from.
        changes: settings to replace (``weights``, ``root``, ``device``, ...), None where they stay.
        out: where the new run is kept; default nowhere.
        tolerance: see `row_differences`.

    Raises:
        UserError: no run there, or one that cannot be run here.
    """
    old, rows = read_run(folder), read_rows(folder)
    settings = read_settings(old.settings).changed(**(changes or {}))
    probe = parse_probe(old.probe_spec, f"{folder / 'run.json'}, probe_spec")
    session = sessions.of(settings)
    with TemporaryDirectory() as temporary:
        place = Path(temporary) if out is None else out
        if folder.resolve().is_relative_to(place.resolve()):
            raise UserError(f"{folder} lies in {place}; write what is run again elsewhere")
        again = run_probe(session, probe, place, settings=settings)
        new, new_rows = read_run(again), read_rows(again)
    compared = None if old.schema == new.schema else _SINCE_SCHEMA_1
    lines, largest = row_differences(rows, new_rows, tolerance, compared)
    differences = [*record_differences(old, new), *lines]
    return Rerun(folder, settings.command, tuple(differences), tuple(_notes(old, new)), len(rows), largest)


def record_differences(old: Run, new: Run) -> list[str]:
    """What decides a result and is not the same in two records; a run of schema 1 is judged by what it recorded."""
    out = []
    if old.schema == new.schema:
        before, after = old.identity, new.identity
        for part in sorted({*before, *after} - {"fingerprint"}):
            if before.get(part) != after.get(part):
                out.append(f"model: {part} was {_short(before.get(part))}, now {_short(after.get(part))}")
        if not out and old.fingerprint != new.fingerprint:
            out.append(f"model: fingerprint was {old.fingerprint}, now {new.fingerprint}")
    elif old.model_fingerprint != new.model_fingerprint:
        out.append(f"model: fingerprint was {old.model_fingerprint}, now {new.model_fingerprint}")
    if old.schema == new.schema and old.data_fingerprint != new.data_fingerprint:
        out.append(
            f"data: fingerprint was {old.data_fingerprint}, now {new.data_fingerprint}: other captions or images"
        )
    for name in ("split", "captions", "images", "skipped", "context_length", "precision", "device", "seed"):
        before, after = getattr(old, name), getattr(new, name)
        if before != after and not any(line.startswith(f"model: {name}") for line in out):
            out.append(f"{name}: was {before}, now {after}")
    return out


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _notes(old: Run, new: Run) -> list[str]:
    names = sorted({*old.versions, *new.versions})
    pairs = [(name, old.versions.get(name, "none"), new.versions.get(name, "none")) for name in names]
    out = [f"{name} was {before}, now {after}" for name, before, after in pairs if before != after]
    if old.schema != new.schema:
        out.append(f"the record is of schema {old.schema}: preprocessing, tokenizer and weights file are not in it")
        out.append("its data fingerprint does not cover the images, and is not compared")
        out.append("its values count ties against the model, and its intervals and tests follow other formulas")
    return out


def row_differences(
    old: Sequence[Row], new: Sequence[Row], tolerance: float, compared: Sequence[str] | None = None
) -> tuple[list[str], float]:
    """What differs between two lists of rows, in words, and the largest difference of a number.

    Rows belong together by probe, condition, direction, metric and scope. Two numbers agree where they differ by at
    most ``tolerance`` times the larger of 1 and their size: recalls by ``tolerance``, ranks relative to themselves.
    ``compared`` names the fields that are looked at; default all.
    """
    before = {tuple(getattr(row, name) for name in _NAMED): row for row in old}
    after = {tuple(getattr(row, name) for name in _NAMED): row for row in new}
    lines = [f"row {_said(key)}: is not there any more" for key in before.keys() - after.keys()]
    lines += [f"row {_said(key)}: is new" for key in after.keys() - before.keys()]
    for rows, unique in ((old, before), (new, after)):
        if len(unique) < len(rows):
            lines.append(f"{len(rows) - len(unique)} rows are there twice")
    largest = 0.0
    for key in before.keys() & after.keys():
        for part in fields(Row):
            if part.name not in _NAMED and (compared is None or part.name in compared):
                one, two = getattr(before[key], part.name), getattr(after[key], part.name)
                size = _apart(one, two)
                largest = max(largest, size if math.isfinite(size) else 0.0)
                if size > tolerance:
                    lines.append(f"row {_said(key)}: {part.name} was {one}, now {two}")
    shown = sorted(lines)
    if len(shown) > _SHOWN:
        shown = [*shown[:_SHOWN], f"and {len(shown) - _SHOWN} more"]
    return shown, largest


def _apart(one: object, two: object) -> float:
    """How far two entries of a row are apart; infinity where they are of different kinds, or texts that differ."""
    if isinstance(one, (int, float)) and isinstance(two, (int, float)):
        return abs(one - two) / max(1.0, abs(one), abs(two))
    return 0.0 if one == two else math.inf


def _said(key: tuple[Any, ...]) -> str:
    named = dict(zip(_NAMED, key, strict=True))
    place = f" at {named['x']:g}" if isinstance(named["x"], float) else ""
    return " ".join(str(named[n]) for n in ("condition", "direction", "metric", "scope") if named[n]) + place


def as_record(result: Rerun) -> dict[str, Any]:
    """A result as plain JSON values."""
    return {**asdict(result), "folder": str(result.folder), "equal": not result.differences}
