"""Run folders: how a run is written, found and read.

A run folder ``<results>/<model>@<fingerprint>/<data>@<fingerprint>/<probe>/`` holds

- ``run.json``: one `Run` (what was run, on what, with which versions) and how to run it again;
- ``rows.jsonl``: one `Row` per line (condition x direction x metric x scope);
- ``queries.parquet``: one line per query and condition, columns of `QUERY_TABLES`.

``run.json`` is written last: a folder without it is an unfinished run.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipbias.errors import UserError
from clipbias.files import atomic_path, below, cannot_write, folder_lock, write_text
from clipbias.formats import parse_json, read_json
from clipbias.gate import check_count, read_text
from clipbias.names import file_name
from clipbias.results import schema1
from clipbias.results.queries import check_tables, read_queries_file, write_queries_file, written_tables
from clipbias.results.record import QUERY_COLUMNS, SCHEMA, Row, Run, checked, sealed

if TYPE_CHECKING:
    import pandas as pd


_FILES = ("run.json", "rows.jsonl", "queries.parquet")
_HEAD = 8
_PATIENCE = 60.0
"""Seconds to wait for another process that writes the same run."""


def run_folder(
    results: Path, model: str, data: str, probe: str, model_fingerprint: str = "", data_fingerprint: str = ""
) -> Path:
    """The folder of a run, ``MODEL@1a2b3c4d/DATA@5e6f7a8b/PROBE`` below ``results``.

    Names go through `clipbias.names.file_name`; the head of a fingerprint tells apart what is called the same. A data
    set that is a file is called by the file, not by the whole path.
    """
    if data_fingerprint and re.search(r"[/\\]", data) and not data.startswith("hf:"):
        data = re.split(r"[/\\]", data.rstrip("/\\"))[-1]
    return results / _named(model, model_fingerprint) / _named(data, data_fingerprint) / file_name(probe)


def _named(name: str, fingerprint: str) -> str:
    return file_name(name) + (f"@{file_name(fingerprint[:_HEAD])}" if fingerprint else "")


def place_for(results: Path, run: Run) -> Path:
    """Where a run is written: its folder, free or holding an earlier run of the same model, data and probe.

    Raises:
        UserError: a link is in the way, or the folder holds another run or files that clipbias did not make.
    """
    wanted = run_folder(Path(), run.model, run.data, run.probe, run.fingerprint, run.data_fingerprint)
    folder = below(results, *wanted.parts)
    if not os.path.isdir(folder):
        if os.path.exists(folder):
            raise UserError(f"{folder} is a file; choose another folder for results")
        return folder
    for entry in sorted(folder.iterdir()):
        if entry.name not in _FILES and not (entry.name.startswith(".") and entry.name.endswith(".part")):
            raise UserError(f"{folder} holds {entry.name!r}, which clipbias did not write; choose another folder")
        below(folder, entry.name)
    if (folder / "run.json").exists() and which(read_run(folder)) != which(run):
        raise UserError(
            f"{folder} holds a run of another model or other data; it is not overwritten, choose another folder"
        )
    return folder


def which(run: Run) -> tuple[str, str, str]:
    """What a run is of: model and data by fingerprint, and the probe's name."""
    return run.fingerprint, run.data_fingerprint, run.probe


def write_run(folder: Path, run: Run, rows: Sequence[Row], queries: pd.DataFrame | Sequence[pd.DataFrame]) -> None:
    """Write a run folder; ``run.json`` comes last, so that a folder with it is a whole one.

    One process writes at a time, and nothing is written that `read_run`, `read_rows` and `read_queries` would refuse.

    Args:
        folder, run, rows: the run's.
        queries: the per-query table, or tables that make it up, in their order.

    Raises:
        UserError: the run could not be read back (says why), or the folder cannot be written to.
    """
    try:
        if not rows:
            raise ValueError("it has no rows")
        lines = [json.dumps(asdict(row), allow_nan=False) + "\n" for row in rows]
        checked(Run, json.loads(json.dumps(asdict(run), allow_nan=False)))
        for line in lines:
            checked(Row, json.loads(line))
        tables = written_tables(queries)
        check_tables(tables, "the table of queries")
    except (TypeError, ValueError, KeyError, UserError) as error:
        raise UserError(f"{folder}: not written, it could not be read again: {error}") from error
    with folder_lock(folder, wait=_PATIENCE):
        try:
            (folder / "run.json").unlink(missing_ok=True)
        except OSError as error:
            raise cannot_write(folder, error) from error
        write_text(folder / "rows.jsonl", "".join(lines))
        with atomic_path(folder / "queries.parquet") as path:
            write_queries_file(path, tables)
        run = replace(run, files={name: file_digest(folder / name) for name in _FILES if name != "run.json"})
        run = replace(run, seal=sealed(run))
        write_text(folder / "run.json", json.dumps(asdict(run), indent=1) + "\n")


def file_digest(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove_run(folder: Path) -> None:
    """Remove a run's files, and its folder and those above it that are empty then, up to two.

    Raises:
        UserError: the folder is a link, or holds something that clipbias did not write.
    """
    if folder.is_symlink():
        raise UserError(f"{folder} is a link; nothing is removed through it")
    foreign = sorted(p.name for p in folder.iterdir() if p.name not in _FILES or p.is_symlink() or not p.is_file())
    if foreign:
        raise UserError(f"{folder} holds {foreign[0]!r}, which clipbias did not write; nothing is removed")
    for name in _FILES:  # run.json first: a folder without it is unfinished
        (folder / name).unlink(missing_ok=True)
    for empty in (folder, folder.parent, folder.parent.parent):
        try:
            empty.rmdir()
        except OSError:
            break


def read_run(folder: Path) -> Run:
    """The description of a finished run.

    Raises:
        UserError: none there, damaged, or of a schema that this version does not know.
    """
    path = folder / "run.json"
    try:
        content: Any = read_json(path, "config")
    except UserError as error:
        raise UserError(f"{error}; not a readable run") from error
    found = content.get("schema") if isinstance(content, dict) else None
    if found not in (1, SCHEMA) or isinstance(found, bool):
        raise UserError(f"{path}: schema {str(found)[:40]!r}; this version of clipbias reads schemas 1 and {SCHEMA}")
    try:
        return checked(Run, content if found == SCHEMA else schema1.upgraded_run(content))
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: {error}") from error


def read_rows(folder: Path) -> list[Row]:
    """The rows of a run.

    Raises:
        UserError: not readable; the line says which.
    """
    path = folder / "rows.jsonl"
    lines = read_text(path, "rows").splitlines()
    check_count("rows", len(lines), str(path))
    if not lines:
        raise UserError(f"{path}: no rows; a run has one at least")
    rows = []
    for number, line in enumerate(lines, 1):
        content = parse_json(line, f"{path}, line {number}")
        try:
            if isinstance(content, dict) and "p_mcnemar" in content:
                content = schema1.upgraded_row(content)
            rows.append(checked(Row, content))
        except (ValueError, TypeError) as error:
            raise UserError(f"{path}, line {number}: not a result row: {error}") from error
    return rows


def read_queries(folder: Path) -> pd.DataFrame:
    """The per-query table of a run, columns of `QUERY_TABLES`; of schema 1 as `schema1.upgraded_queries` makes it.

    Raises:
        UserError: not readable, or not as `clipbias.results.queries.KINDS` says; names column and row.
    """
    frame = read_queries_file(folder / "queries.parquet")
    if tuple(frame.columns) == schema1.QUERY_COLUMNS:
        frame = schema1.upgraded_queries(frame)[list(QUERY_COLUMNS)]
    return frame


def find_runs(paths: Sequence[Path]) -> list[Path]:
    """The finished run folders in and below ``paths``, sorted.

    Raises:
        UserError: a path does not exist.
    """
    found = set()
    for path in paths:
        if not path.exists():
            raise UserError(f"{path}: no such results folder; run `clipbias probe` first or name another")
        # What is no regular file is found too, and refused when it is read; a probe may be called run.json.
        found |= {file.parent for file in path.rglob("run.json") if not file.is_dir()}
    return sorted(found)


@dataclass(frozen=True)
class Finished:
    """A finished run; its rows and its per-query table are read when first asked for, once."""

    folder: Path
    run: Run

    @cached_property
    def rows(self) -> list[Row]:
        """See `read_rows`."""
        return read_rows(self.folder)

    @cached_property
    def queries(self) -> pd.DataFrame:
        """See `read_queries`."""
        return read_queries(self.folder)


def finished(folder: Path) -> Finished:
    """The finished run in a folder; raises as `read_run`."""
    return Finished(folder, read_run(folder))


def load_runs(paths: Sequence[Path], damaged: list[str] | None = None) -> list[Finished]:
    """Every finished run in and below ``paths``, one for each model, data set, split and probe, in that order.

    Runs from several folders and machines are merged. A run that is there twice counts once where it is the same
    (model, data and spec, by fingerprint): the first by path is taken. Models, or data sets, of one name and different
    fingerprints are named NAME@FINGERPRINT. Folders without ``run.json`` are unfinished and passed over.

    Args:
        paths: folders.
        damaged: where the lines on damaged runs go, which are left out then; all of each run is read for it.

    Raises:
        UserError: a path does not exist; without ``damaged``: a run is damaged, of another schema, or there twice and
            not the same.
    """
    found: dict[tuple[str, ...], Finished] = {}
    for folder in find_runs(paths):
        try:
            one = finished(folder)
            if damaged is not None:
                _ = one.rows, one.queries
            run = one.run
            earlier = found.setdefault((run.model, run.data, run.split, run.probe, *which(run)), one)
            if earlier.run.probe_spec != run.probe_spec:
                raise UserError(
                    f"{folder}: {run.probe} of {run.model} on {run.data} is there twice and differs, "
                    f"see {earlier.folder}; remove one"
                )
        except UserError as error:
            if not os.path.lexists(folder / "run.json"):
                continue  # made anew by another process since it was listed: unfinished
            if damaged is None:
                raise
            damaged.append(str(error))
    return _told_apart([found[key] for key in sorted(found)])


def _told_apart(runs: list[Finished]) -> list[Finished]:
    """Runs with the head of a fingerprint in the name of models, or data sets, that are called the same and differ."""
    models: dict[tuple[str, ...], set[str]] = {}
    data: dict[tuple[str, str], set[str]] = {}
    for one in runs:
        models.setdefault((one.run.model,), set()).add(one.run.fingerprint)
        data.setdefault((one.run.data, one.run.split), set()).add(one.run.data_fingerprint)
    out = []
    for one in runs:
        run = one.run
        if len(models[run.model,]) > 1:
            run = replace(run, model=f"{run.model}@{run.fingerprint[:_HEAD]}")
        if len(data[run.data, run.split]) > 1:
            run = replace(run, data=f"{run.data}@{run.data_fingerprint[:_HEAD]}")
        told = Finished(one.folder, run)
        # What was read already need not be read again under the new name.
        told.__dict__.update({name: one.__dict__[name] for name in ("rows", "queries") if name in one.__dict__})
        out.append(told)
    return out
