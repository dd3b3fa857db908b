"""Run folders: how a run is written, found and read.

A run folder ``<results>/<model>/<data>/<probe>/`` holds

- ``run.json``: one `Run` (what was run, on what, with which versions) and how to run it again;
- ``rows.jsonl``: one `Row` per line (condition x direction x metric x scope);
- ``queries.parquet``: one line per query and condition, columns `QUERY_COLUMNS`.

``run.json`` is written last: a folder without it is an unfinished run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from clipbias.errors import UserError
from clipbias.files import atomic_path, write_text
from clipbias.results.record import QUERY_COLUMNS, SCHEMA, Row, Run, checked

if TYPE_CHECKING:
    import pandas as pd


def run_folder(results: Path, model: str, data: str, probe: str) -> Path:
    """The folder of a run; names are reduced to characters that every file system takes."""
    return results / _safe(model) / _safe(data) / _safe(probe)


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", Path(name).name if "/" in name else name).strip(".-") or "unnamed"


def write_run(folder: Path, run: Run, rows: Sequence[Row], queries: pd.DataFrame) -> None:
    """Write a run folder; ``run.json`` comes last, so that a folder with it is a whole one."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        (folder / "run.json").unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror}; choose another folder") from error
    write_text(folder / "rows.jsonl", "".join(json.dumps(asdict(row)) + "\n" for row in rows))
    with atomic_path(folder / "queries.parquet") as path:
        pq.write_table(
            pa.Table.from_pandas(queries[list(QUERY_COLUMNS)], preserve_index=False), path, compression="zstd"
        )
    write_text(folder / "run.json", json.dumps(asdict(run), indent=1) + "\n")


def read_run(folder: Path) -> Run:
    """The description of a finished run.

    Raises:
        UserError: none there, damaged, or of a schema that this version does not know.
    """
    path = folder / "run.json"
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not a readable run ({error})") from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        found = content.get("schema") if isinstance(content, dict) else None
        raise UserError(f"{path}: schema {found!r}; this version of clipbias reads schema {SCHEMA}")
    try:
        return checked(Run, content)
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: {error}") from error


def read_rows(folder: Path) -> list[Row]:
    """The rows of a run.

    Raises:
        UserError: not readable; the line says which.
    """
    path = folder / "rows.jsonl"
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(checked(Row, json.loads(line)))
        except (ValueError, TypeError, RecursionError) as error:
            raise UserError(f"{path}, line {number}: not a result row: {error}") from error
    return rows


def read_queries(folder: Path) -> pd.DataFrame:
    """The per-query table of a run, columns `QUERY_COLUMNS`.

    Raises:
        UserError: not readable, or other columns.
    """
    import pandas as pd

    path = folder / "queries.parquet"
    try:
        frame = pd.read_parquet(path)
    except Exception as error:
        # Parquet readers raise a dozen types for damaged files; all mean the same here.
        raise UserError(f"{path}: not a readable table ({type(error).__name__})") from error
    if tuple(frame.columns) != QUERY_COLUMNS:
        raise UserError(f"{path}: columns {', '.join(map(str, frame.columns))}; expected {', '.join(QUERY_COLUMNS)}")
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
        found |= {file.parent for file in path.rglob("run.json")}
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


def load_runs(paths: Sequence[Path]) -> list[Finished]:
    """Every finished run in and below ``paths``, one for each model, data set, split and probe, in that order.

    Runs from several folders and machines are merged. A run that is there twice counts once where it is the same
    (model, data and spec, by fingerprint): the first by path is taken. Folders without ``run.json`` are unfinished
    and passed over.

    Raises:
        UserError: a path does not exist, a run is damaged, of another schema, or there twice and not the same.
    """
    found: dict[tuple[str, str, str, str], Finished] = {}
    for folder in find_runs(paths):
        try:
            run = read_run(folder)
        except UserError:
            if (folder / "run.json").exists():
                raise
            continue  # made anew by another process since it was listed: unfinished
        earlier = found.setdefault((run.model, run.data, run.split, run.probe), Finished(folder, run))
        if _identity(earlier.run) != _identity(run):
            raise UserError(
                f"{folder}: {run.probe} of {run.model} on {run.data} is there twice and differs, see {earlier.folder}; "
                "remove one"
            )
    return [found[key] for key in sorted(found)]


def _identity(run: Run) -> tuple[str, str, str]:
    return run.model_fingerprint, run.data_fingerprint, run.probe_spec


def top1(queries: pd.DataFrame, condition: str, direction: str = "t2i") -> pd.Series:
    """Top-1 hits (0 or 1) of a condition's queries, by query."""
    mine = queries[(queries["condition"] == condition) & (queries["direction"] == direction)]
    return (mine.set_index("query")["rank"] == 1).astype(float)
