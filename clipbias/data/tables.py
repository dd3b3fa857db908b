"""Tables of image names and captions: CSV, TSV, JSON lines and Parquet, a row at a time."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from clipbias.data.jsonfiles import read_json_lines
from clipbias.errors import UserError
from clipbias.gate import check_count, count_limit, not_utf8, open_file, require_file, size_limit, variable

SUFFIXES = (".csv", ".tsv", ".jsonl", ".jsonlines", ".parquet")
IMAGE_COLUMNS = ("image", "image_path", "image_file", "filepath", "file_path", "file_name", "filename", "path", "img")
CAPTION_COLUMNS = ("caption", "captions", "text", "description", "long_caption", "sentence", "sentences")
_PARQUET_BATCH = 1024

Row = tuple[dict[str, Any], str]
"""The entries of a row, and its place for messages."""


def column(chosen: str, usual: Sequence[str], columns: Iterable[object], where: str, what: str) -> str:
    """The column to read: the one named, else the only usual one.

    Raises:
        UserError: there is none; the line names those there are.
    """
    names = [str(c) for c in columns]
    known = ", ".join(names)[:300]
    if chosen:
        if chosen not in names:
            raise UserError(f"{where}: no column {chosen!r}; it has {known}")
        return chosen
    found = [c for c in usual if c in names]
    if not found:
        raise UserError(f"{where}: no {what} column; it has {known}; name it with --option {what}_column=NAME")
    return found[0]


def table_pairs(file: Path, columns: tuple[str, str]) -> Iterator[tuple[object, object, str]]:
    """(image name, caption, place) of every caption of a table; a field may hold a list of captions.

    Args:
        file: the table.
        columns: names of the image and the caption column; "" for the usual ones.

    Raises:
        UserError: not readable, no such columns, or a broken row.
    """
    names: tuple[str, str] | None = None
    for entry, where in _parquet_rows(file, columns) if file.suffix == ".parquet" else text_rows(file):
        if names is None:
            names = _both(columns, entry, file)
        image, caption = entry.get(names[0]), entry.get(names[1])
        for text in caption if isinstance(caption, list) else [caption]:
            yield image, text, where


def _both(columns: tuple[str, str], present: Iterable[object], file: Path) -> tuple[str, str]:
    present = list(present)
    return (
        column(columns[0], IMAGE_COLUMNS, present, str(file), "image"),
        column(columns[1], CAPTION_COLUMNS, present, str(file), "caption"),
    )


def text_rows(file: Path) -> Iterator[Row]:
    """The rows of a CSV, TSV (by its suffix) or JSON lines file.

    Raises:
        UserError: not readable, or a broken row.
    """
    if file.suffix in (".jsonl", ".jsonlines"):
        yield from read_json_lines(file)
        return
    try:
        with io.TextIOWrapper(open_file(file, "table"), encoding="utf-8-sig", newline="") as text:
            reader = csv.DictReader(_lines(file, text), delimiter="\t" if file.suffix == ".tsv" else ",", strict=True)
            for entry in reader:
                yield entry, f"{file}, line {reader.line_num:,}"
    except UnicodeDecodeError as error:
        raise not_utf8(file, error) from error
    except csv.Error as error:
        raise UserError(f"{file}: not a readable table ({error})") from error
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from error


def _lines(file: Path, text: io.TextIOWrapper) -> Iterator[str]:
    longest, number = size_limit("line"), 0
    while line := text.readline(longest + 1):
        number += 1
        if len(line) > longest:
            raise UserError(f"{file}, line {number:,}: longer than {longest:,} ({variable('line_bytes')} sets it)")
        yield line


def _parquet_rows(file: Path, columns: tuple[str, str]) -> Iterator[Row]:
    """The two columns of a Parquet file; its counts are looked at first, since equal rows take no room in it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    require_file(file, "table")
    number = 0
    try:
        with pq.ParquetFile(file) as table:
            schema = table.schema_arrow
            check_count("captions", table.metadata.num_rows, str(file), "rows")
            wanted = _both(columns, schema.names, file)
            # Texts stay in their dictionary until they were measured.
            texts = [name for name in wanted if pa.types.is_string(schema.field(name).type)]
            with pq.ParquetFile(file, read_dictionary=texts) as measured:
                for batch in measured.iter_batches(_PARQUET_BATCH, columns=list(dict.fromkeys(wanted))):
                    _check_texts(file, batch, number)
                    for entry in batch.to_pylist():
                        yield entry, f"{file}, row {number:,}"
                        number += 1
    # Arrow's readers raise its own types, OSError, and for odd schemas what Python has for them.
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError, NotImplementedError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{file}: not a readable Parquet file near row {number:,} ({reason})") from error


def _check_texts(file: Path, batch: Any, first: int) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    most = count_limit("characters")
    for values in batch.columns:
        if isinstance(values, pa.DictionaryArray):
            values = values.dictionary
        if pa.types.is_string(values.type) and (pc.max(pc.utf8_length(values)).as_py() or 0) > most:
            raise UserError(f"{file}, rows from {first:,}: a text of more than {most:,} characters (the limit)")
