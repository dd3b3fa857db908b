"""Indices of annotation files that are too large to parse each time, kept in the cache folder.

An index is an Arrow file with one row a caption: ``image`` (text), ``caption`` (text) and ``first``
(int64, the row in which this image first occurs), followed by a digest of all of it, which is checked once per
process and file. It is memory-mapped: rows are read when asked for.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from clipbias.data.ondemand import OnDemand
from clipbias.data.roots import cache_folder
from clipbias.errors import UserError
from clipbias.files import atomic_path
from clipbias.gate import open_file, require_file

if TYPE_CHECKING:
    import pyarrow as pa

OWN = "clipbias-"
"""How the files of the cache are called, so that nothing else is ever removed from it."""
INDEX_VERSION = 2
BATCH = 8192
_DIGEST = 32


def index_path(kind: str, sources: Iterable[Path]) -> Path:
    """Where the index of these files is kept; another path, size or time of change gives another index.

    Raises:
        UserError: a file is missing.
    """
    digest = hashlib.sha256(f"{kind}/{INDEX_VERSION}".encode())
    for source in sources:
        try:
            state = source.stat()
        except OSError as error:
            raise UserError(f"{source}: cannot be read ({error.strerror})") from error
        digest.update(f"\n{source.resolve()}\n{state.st_size}\n{state.st_mtime_ns}".encode("utf-8", "surrogateescape"))
    return cache_folder() / "index" / f"{OWN}{kind}-{digest.hexdigest()[:24]}.arrow"


def write_index(path: Path, rows: Iterable[tuple[str, str]]) -> None:
    """Write an index of (image name, caption) rows, in constant memory but for the image names.

    Raises:
        UserError: the cache folder cannot be written to, or whatever ``rows`` raises; nothing stays then.
    """
    import pyarrow as pa

    schema = pa.schema([("image", pa.string()), ("caption", pa.string()), ("first", pa.int64())])
    seen: dict[str, int] = {}
    images: list[str] = []
    captions: list[str] = []
    firsts: list[int] = []
    with atomic_path(path) as temporary:
        with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:

            def flush() -> None:
                writer.write_batch(pa.record_batch([images, captions, firsts], schema=schema))
                for column in (images, captions, firsts):
                    column.clear()

            for number, (image, caption) in enumerate(rows):
                images.append(image)
                captions.append(caption)
                firsts.append(seen.setdefault(image, number))
                # Every batch but the last is full: row i lies in batch i // BATCH.
                if len(images) == BATCH:
                    flush()
            if images:
                flush()
        with temporary.open("rb+") as file:
            digest = _digest(file, temporary.stat().st_size)
            file.seek(0, os.SEEK_END)
            file.write(digest)


def _digest(file: BinaryIO, size: int) -> bytes:
    found, left = hashlib.blake2b(digest_size=_DIGEST), size
    file.seek(0)
    while left and (chunk := file.read(min(left, 1 << 20))):
        found.update(chunk)
        left -= len(chunk)
    return found.digest()


class IndexColumn(OnDemand[str]):
    """Rows ``start`` to ``stop`` of a text column of an index; read from the mapped file when asked for."""

    def __init__(self, path: Path, column: str, start: int, stop: int) -> None:
        self.path, self.column, self.start, self.stop = path, column, start, stop
        self._batches: list[pa.RecordBatch] | None = None

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_batches": None}

    def _values(self, batch: int) -> pa.Array:
        if self._batches is None:
            self._batches = _open(self.path)
        return self._batches[batch].column(self.column)

    def __len__(self) -> int:
        return self.stop - self.start

    def item(self, place: int) -> str:
        """See `OnDemand`."""
        batch, row = divmod(self.start + place, BATCH)
        return self._values(batch)[row].as_py()

    def __iter__(self) -> Iterator[str]:
        place = self.start
        while place < self.stop:
            batch, row = divmod(place, BATCH)
            values = self._values(batch).slice(row, self.stop - place).to_pylist()
            yield from values
            place += len(values)


@lru_cache(maxsize=64)
def _is_whole(path: Path, size: int, changed: int) -> bool:
    """Whether the digest at the end of an index is that of what stands before it; looked at once per state."""
    with open_file(path, "table") as file:
        body = _digest(file, size - _DIGEST)
        return file.read(_DIGEST) == body


def _open(path: Path) -> list[pa.RecordBatch]:
    import pyarrow as pa

    state = require_file(path, "table")
    if state.st_size < _DIGEST or not _is_whole(path, state.st_size, state.st_mtime_ns):
        raise UserError(f"{path}: damaged (its digest is another); run again")
    mapped = pa.memory_map(str(path))
    reader = pa.ipc.open_file(pa.BufferReader(mapped.read_buffer(state.st_size - _DIGEST)))
    return [reader.get_batch(i) for i in range(reader.num_record_batches)]


def open_index(path: Path) -> tuple[int, np.ndarray] | None:
    """The number of rows and the ``first`` column of an index; None where there is none or it is damaged."""
    import pyarrow as pa

    if not path.is_file():
        return None
    try:
        batches = _open(path)
        if any(len(batch) != BATCH for batch in batches[:-1]):
            return None
        columns = [batch.column("first").to_numpy() for batch in batches]
    except (pa.ArrowException, OSError, KeyError, UserError):
        return None
    first = np.concatenate(columns) if columns else np.zeros(0, dtype=np.int64)
    return len(first), first
