"""The per-query table of a run: one schema for what is written and what is read, from whomever it comes."""

from __future__ import annotations

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
    if tuple(frame.columns) not in (*QUERY_TABLES, schema1.QUERY_COLUMNS):
        shown = ", ".join(map(str, frame.columns))[:300]
        raise UserError(f"{where}: columns {shown}; expected {', '.join(QUERY_COLUMNS)}")
    if len(frame) == 0:
        return frame
    out = frame.assign(**{str(name): _column(frame[name], KINDS[str(name)], where) for name in frame.columns})
    for name in (name for name in out.columns if KINDS[name] is WHOLE):
        _refuse(out[name] < _LEAST.get(name, 0), out[name], f"{_LEAST.get(name, 0)} or more", where)
        _refuse(out[name] > 2**31 - 1, out[name], "below 2**31", where)
    _refuse(~out["direction"].isin(["t2i", "i2t"]), out["direction"], "t2i or i2t", where)
    twice = out.duplicated(_KEY)
    if twice.any():
        row = int(twice.to_numpy().argmax())
        condition, direction, query = out.iloc[row][_KEY]
        raise UserError(
            f"{where}, row {row:,}: query {query} of {ascii(condition)[:80]}, {direction} is there twice; expected once"
        )
    return out


def _column(column: pd.Series, kind: str, where: str) -> pd.Series:
    """A column with the type of its kind."""
    import numpy as np
    import pandas as pd

    if kind is TEXT:
        if isinstance(column.dtype, pd.CategoricalDtype):
            for name in column.cat.categories:
                _check_name(name, column, where)
        else:
            for name in column.unique():
                _check_name(name, column, where)
        _refuse(column.isna(), column, kind, where)
        return column.astype(str)
    _refuse(column.isna() & (kind is not MARGIN), column, kind, where)
    fits: dict[str, Any] = {
        WHOLE: pd.api.types.is_integer_dtype,
        NUMBER: lambda dtype: pd.api.types.is_float_dtype(dtype) or pd.api.types.is_integer_dtype(dtype),
        SWITCH: pd.api.types.is_bool_dtype,
    }
    if not fits[NUMBER if kind is MARGIN else kind](column.dtype) or pd.api.types.is_complex_dtype(column.dtype):
        raise UserError(f"{where}: column {column.name!r} holds {column.dtype}; expected {kind} in every row")
    if kind is NUMBER:
        _refuse(~np.isfinite(column.astype(float)), column, "a finite number", where)
    return column


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
