"""Result rows and run folders: what a probe leaves behind and what a report reads.

A run folder ``<results>/<model>/<data>/<probe>/`` holds

- ``run.json``: one `Run` (what was run, on what, with which versions) and how to run it again;
- ``rows.jsonl``: one `Row` a line (condition x direction x metric x scope);
- ``queries.parquet``: one line a query and condition, columns `QUERY_COLUMNS`;

``run.json`` is written last: a folder without it is an unfinished run.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, TypeVar, get_args, get_origin, get_type_hints

from clipbias.errors import UserError
from clipbias.files import atomic_path, write_text

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 1

QUERY_COLUMNS = ("condition", "direction", "query", "cluster", "rank", "cosine", "margin", "eligible", "affected")
"""condition, direction ("t2i", "i2t"): text; query: caption index (t2i) or image index (i2t), int32;
cluster: image index, the unit the bootstrap resamples, int32; rank: 1 is best, ties against the model,
int32; cosine: with the best positive, float32; margin: cosine minus the best negative's, float32;
eligible: the condition's transforms could be applied to this query's caption(s); affected: they changed it."""


@dataclass(frozen=True)
class Row:
    """One measured number.

    Attributes:
        probe, condition: names from the probe's spec; ``order`` is the condition's place in it.
        x: the swept value (number of padding sentences, ...) or None.
        baseline: the condition that ``delta`` is measured against; its own rows have no delta.
        direction: "t2i", "i2t" or "" for numbers without one (a card's scalars, attention mass).
        metric: "recall@1", "recall@5", "recall@10", "median_rank", "mean_rank", "mrr",
            "mean_positive_cosine", "mean_margin", or a probe's own name.
        scope: "eligible" (the headline) or "all".
        value, low, high: the number and its 95% interval (recalls as fractions in 0..1).
        delta, delta_low, delta_high: paired difference to the baseline on the same queries.
        p_mcnemar, p_holm: exact McNemar p of top-1 against the baseline, plain and Holm-corrected
            over the conditions and directions of the probe.
        n: queries behind the value; eligible, affected: captions that the condition could be and was
            applied to; truncated: share of captions cut at the context length; tokens_lost: mean
            number of tokens cut per caption.
    """

    probe: str
    condition: str
    order: int
    x: float | None
    baseline: str | None
    direction: str
    metric: str
    scope: str
    value: float
    low: float | None
    high: float | None
    delta: float | None
    delta_low: float | None
    delta_high: float | None
    p_mcnemar: float | None
    p_holm: float | None
    n: int
    eligible: int
    affected: int
    truncated: float
    tokens_lost: float


@dataclass(frozen=True)
class Run:
    """Everything about a run that its rows share. Fingerprints are hex digests."""

    schema: int
    probe: str
    probe_spec: str  # the spec's TOML text
    title: str
    model: str
    model_family: str
    model_fingerprint: str
    model_options: dict[str, str]
    data: str
    split: str
    data_fingerprint: str
    protocol: str
    captions: int
    images: int
    skipped: int
    context_length: int
    truncation: str  # in words: "cut, EOT kept last"
    interval: str  # in words: method, resamples, level
    precision: str
    device: str
    seed: int
    seconds: float
    created: str  # UTC, ISO 8601
    command: str  # runs it again
    versions: dict[str, str]  # clipbias, python, torch, open_clip, numpy, pillow
    git_commit: str  # of the clipbias source tree; "" for an installed wheel
    git_dirty: bool


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
        return _checked(Run, content)
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: {error}") from error


_NAMES = frozenset({"model", "data", "split", "probe", "condition", "metric", "baseline", "direction", "scope"})
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
T = TypeVar("T", Row, Run)


def _checked(kind: type[T], content: object) -> T:
    """A record from JSON that may come from anybody.

    Raises:
        TypeError: no object, other fields than the record's, or a value of another type.
        ValueError: a number that is none, or a name that would not print as it is.
    """
    if not isinstance(content, dict):
        raise TypeError("not an object")
    hints = _hints(kind)  # type: ignore[arg-type]  # a class is hashable, whatever its instances are
    if content.keys() != hints.keys():
        odd = sorted(content.keys() ^ hints.keys())
        raise TypeError(f"fields missing or not known: {', '.join(map(repr, odd))[:200]}")
    for name, value in content.items():
        if not isinstance(value, hints[name]) or (isinstance(value, bool) and bool not in hints[name]):
            raise TypeError(f"{name} is {type(value).__name__}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name} is {value}")
        if name in _NAMES and isinstance(value, str) and _CONTROL.search(value):
            raise ValueError(f"{name} {value!r} holds control characters")
    return kind(**content)


@cache
def _hints(kind: type[Row] | type[Run]) -> dict[str, tuple[type, ...]]:
    """The types a field of a record may have in JSON; whole numbers may stand for others."""
    out = {}
    for name, hint in get_type_hints(kind).items():
        plain = tuple(
            get_origin(part) or part for part in (get_args(hint) if get_origin(hint) is UnionType else (hint,))
        )
        out[name] = (*plain, int) if float in plain else plain
    return out


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
            rows.append(_checked(Row, json.loads(line)))
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
