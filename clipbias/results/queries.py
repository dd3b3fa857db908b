"""The per-query table of a run: one schema for what is written and what is read, from whomever it comes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipbias.errors import UserError
from clipbias.gate import check_count, require_file
from clipbias.names import unprintable
from clipbias.results import schema1
from clipbias.results.record import LEADER, QUERY_COLUMNS, QUERY_TABLES

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

TEXT, WHOLE, NUMBER, MARGIN, SWITCH = "a text", "a whole number", "a number", "a number or infinite", "true or false"
KINDS = {
    "condition": TEXT,
    "direction": TEXT,
    "query": WHOLE,
    "cluster": WHOLE,
    "better": WHOLE,
    "equal": WHOLE,
    "right": WHOLE,
    "rank": WHOLE,  # schema 1
    "cosine": NUMBER,
    "margin": MARGIN,  # infinite where there is no other candidate
    "eligible": SWITCH,
    "affected": SWITCH,
    LEADER: WHOLE,
}
"""What each column holds; `QUERY_TABLES` says which there are."""
_LEAST = {"right": 1, "rank": 1, LEADER: -1}
_LONGEST_NAME = 1000
_KEY = ["condition", "direction", "query"]
GROUP = 2**20
"""Rows of a row group of the file, which are in memory together when it is written."""


def read_queries_file(path: Path) -> pd.DataFrame:
    """A per-query table, checked.

    Raises:
        UserError: no readable table, too many rows, or as `checked_queries`.
    """
    import pyarrow.parquet as pq

    require_file(path, "queries")
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            check_count("queries", file.metadata.num_rows, str(path), "rows")
            if tuple(names) not in (*QUERY_TABLES, schema1.QUERY_COLUMNS):
                shown = ", ".join(names)[:300]
                raise UserError(f"{path}: columns {shown}; expected {', '.join(QUERY_COLUMNS)}")
            texts = [name for name in names if KINDS[name] is TEXT]
        # Names repeat: they stay in their dictionary, however many rows there are.
        frame = pq.read_table(path, read_dictionary=texts).to_pandas()
    except (UserError, MemoryError):
        raise
    except Exception as error:
        # Parquet readers raise a dozen types for damaged files; all mean the same here.
        raise UserError(f"{path}: not a readable table ({type(error).__name__})") from error
    return checked_queries(frame, str(path))


def checked_queries(frame: pd.DataFrame, where: str) -> pd.DataFrame:
    """The table, its columns of the types that it is computed with.

    Args:
        frame: columns of this schema or of an earlier one; an empty table has no types.
        where: begins the message.

    Raises:
        UserError: a column is missing or holds something else; the line says column, row, what was found and expected.
    """
    check_tables([frame], where)
    return _with_texts(frame)


def check_tables(tables: Sequence[pd.DataFrame], where: str) -> None:
    """`checked_queries` of a table in parts, which are not put together.

    Raises:
        UserError: as there; of several parts it says which.
    """
    for number, part in enumerate(tables, 1):
        _check_table(part, where if len(tables) == 1 else f"{where}, part {number}")
    if any(map(len, tables)):
        _check_once(tables, where)


def _check_table(frame: pd.DataFrame, where: str) -> None:
    if tuple(frame.columns) not in (*QUERY_TABLES, schema1.QUERY_COLUMNS):
        shown = ", ".join(map(str, frame.columns))[:300]
        raise UserError(f"{where}: columns {shown}; expected {', '.join(QUERY_COLUMNS)}")
    if len(frame) == 0:
        return
    for name in map(str, frame.columns):
        _check_column(frame[name], KINDS[name], where)
    for name in (name for name in map(str, frame.columns) if KINDS[name] is WHOLE):
        _refuse(frame[name] < _LEAST.get(name, 0), frame[name], f"{_LEAST.get(name, 0)} or more", where)
        _refuse(frame[name] > 2**31 - 1, frame[name], "below 2**31", where)
    _refuse(~frame["direction"].isin(["t2i", "i2t"]), frame["direction"], "t2i or i2t", where)


def _check_once(tables: Sequence[pd.DataFrame], where: str) -> None:
    """Refuse a query that is there twice; tables in order are seen to have none without a sorted copy of their keys."""
    import pandas as pd

    starts = [part[_KEY[:2]].iloc[_starts(part)].astype(str) for part in tables if len(part)]
    if not pd.concat(starts).duplicated().any() and all(map(_rising, tables)):
        return
    whole = pd.concat(tables, ignore_index=True)
    twice = whole.duplicated(_KEY)
    if twice.any():
        row = int(twice.to_numpy().argmax())
        condition, direction, query = whole.iloc[row][_KEY]
        raise UserError(
            f"{where}, row {row:,}: query {query} of {ascii(condition)[:80]}, {direction} is there twice; expected once"
        )


def _starts(frame: pd.DataFrame) -> np.ndarray:
    """The rows [S] at which a stretch of one condition and direction begins."""
    import numpy as np
    import pandas as pd

    new = np.zeros(len(frame), dtype=bool)
    new[:1] = True
    for name in _KEY[:2]:
        column = frame[name]
        known = isinstance(column.dtype, pd.CategoricalDtype)
        codes = column.cat.codes.to_numpy() if known else pd.factorize(column)[0]
        new[1:] |= codes[1:] != codes[:-1]
    return np.flatnonzero(new)


def _rising(frame: pd.DataFrame) -> bool:
    """Whether queries rise within each stretch of one condition and direction."""
    query = frame["query"].to_numpy()
    falls = (query[1:] <= query[:-1]).nonzero()[0] + 1
    return bool(set(falls.tolist()) <= set(_starts(frame).tolist()))


def _with_texts(frame: pd.DataFrame) -> pd.DataFrame:
    """The table, its texts as texts where they were numbers of names."""
    return frame if len(frame) == 0 else frame.astype({name: str for name in _KEY[:2]})


def written_tables(queries: pd.DataFrame | Sequence[pd.DataFrame]) -> list[pd.DataFrame]:
    """The tables that make up a per-query table, without columns that are not written; one where they are small."""
    import pandas as pd

    parts = queries if isinstance(queries, Sequence) else [queries]
    if len(parts) > 1 and sum(map(len, parts)) <= GROUP:
        parts = [pd.concat(parts, ignore_index=True)]
    wanted = [*QUERY_COLUMNS, *([LEADER] if all(LEADER in part for part in parts) else [])]
    return [part if list(part.columns) == wanted else part[wanted] for part in parts]


def write_queries_file(path: Path, tables: Sequence[pd.DataFrame]) -> None:
    """A per-query table as a file, as if its parts were one table: memory does not grow with their number.

    Args:
        path: of the file.
        tables: as `check_tables` lets them pass; at least one.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    groups = _groups(tables)
    first = pa.Table.from_pandas(next(groups), preserve_index=False)
    with pq.ParquetWriter(path, first.schema, compression="zstd") as file:
        file.write_table(first)
        for group in groups:
            file.write_table(pa.Table.from_pandas(group, first.schema, preserve_index=False))


def _groups(tables: Sequence[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """The rows of all tables in turn, `GROUP` at a time; an empty table is one group."""
    import pandas as pd

    waiting: list[pd.DataFrame] = []
    for table in tables:
        start = 0
        while start < len(table):
            waiting.append(_with_texts(table.iloc[start : start + GROUP - sum(map(len, waiting))]))
            start += len(waiting[-1])
            if sum(map(len, waiting)) == GROUP:
                yield pd.concat(waiting, ignore_index=True)
                waiting.clear()
    if waiting or not any(map(len, tables)):
        yield pd.concat(waiting, ignore_index=True) if waiting else tables[0]


def _check_column(column: pd.Series, kind: str, where: str) -> None:
    """Refuse a column that is not of its kind."""
    import numpy as np
    import pandas as pd

    if kind is TEXT:
        categorical = isinstance(column.dtype, pd.CategoricalDtype)
        for name in column.cat.categories if categorical else column.unique():
            _check_name(name, column, where)
        _refuse(column.isna(), column, kind, where)
        return
    _refuse(column.isna() & (kind is not MARGIN), column, kind, where)
    fits: dict[str, Any] = {
        WHOLE: pd.api.types.is_integer_dtype,
        NUMBER: lambda dtype: pd.api.types.is_float_dtype(dtype) or pd.api.types.is_integer_dtype(dtype),
        SWITCH: pd.api.types.is_bool_dtype,
    }
    if not fits[NUMBER if kind is MARGIN else kind](column.dtype) or pd.api.types.is_complex_dtype(column.dtype):
        raise UserError(f"{where}: column {column.name!r} holds {column.dtype}; expected {kind} in every row")
    if kind is NUMBER:
        _refuse(~np.isfinite(column), column, "a finite number", where)


def _check_name(name: object, column: pd.Series, where: str) -> None:
    if not isinstance(name, str) or unprintable(name) or len(name) > _LONGEST_NAME:
        _refuse(column == name if name == name and name is not None else column.isna(), column, TEXT, where)
        raise UserError(f"{where}: column {column.name!r} holds {ascii(name)[:80]}; expected {TEXT}")


def _refuse(wrong: pd.Series, column: pd.Series, expected: str, where: str) -> None:
    if not wrong.any():
        return
    row = int(wrong.to_numpy().argmax())
    value = column.iloc[row]
    shown = ascii(value) if isinstance(value, str) else str(value)
    raise UserError(f"{where}, row {row:,}: {column.name} is {shown[:80]}; expected {expected} there")


def top1(queries: pd.DataFrame, condition: str, direction: str = "t2i") -> pd.Series:
    """Credit for the first place of a condition's queries, by query."""
    return credits(
        queries[(queries["condition"] == condition) & (queries["direction"] == direction)].set_index("query")
    )


def credits(queries: pd.DataFrame) -> pd.Series:
    """Credit for the first place (0 to 1, `clipbias.stats.ties`) of each line's query."""
    import pandas as pd

    from clipbias.stats.ties import credit

    return pd.Series(credit(*_counts(queries), 1), index=queries.index)


def ranks(queries: pd.DataFrame) -> pd.Series:
    """Expected rank of each line's query, 1 is best."""
    import pandas as pd

    from clipbias.stats.ties import expected_rank

    return pd.Series(expected_rank(*_counts(queries)), index=queries.index)


def _counts(queries: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    better, equal, right = (queries[name].to_numpy() for name in ("better", "equal", "right"))
    return better, equal, right
