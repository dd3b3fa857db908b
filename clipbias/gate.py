"""Opening what may come from anybody: regular files only, of a bounded size, with bounded counts.

Nothing here waits or allocates before it has looked: a file is checked before it is opened, opened so that no pipe or
device can block, checked again once it is open, and never read beyond its limit. Every refusal is one `UserError`.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from clipbias.errors import UserError

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

SIZES: dict[str, int] = {
    "spec": 256 * KIB,  # probe specs, recipes, configuration files: written by hand
    "config": 4 * MIB,  # model folders' JSON, run.json
    "vocabulary": 64 * MIB,  # tokenizer files
    "caption": 4 * MIB,  # a text file with one caption
    "json": 128 * MIB,  # a whole annotation file, parsed at once: Python takes up to 24 times its size
    "table": 16 * GIB,  # read row by row: csv, tsv, jsonl, parquet, arrays of JSON
    "line": 16 * MIB,  # one row of such a table
    "rows": 256 * MIB,  # rows.jsonl, metrics.jsonl, ablation tables, leaderboards
    "queries": 2 * GIB,  # queries.parquet
    "image": 256 * MIB,
    "archive": 200 * GIB,  # .tar and .zip, unpacked or read in place
    "unpacked": 400 * GIB,  # what an archive becomes, where its source states nothing
    "checkpoint": 64 * GIB,
}
"""The largest file of each kind, in bytes."""

COUNTS: dict[str, int] = {
    "pixels": 89_478_485,  # of an image; the size from which Pillow warns of a bomb, 256 MiB in RGB
    "side": 32_768,  # pixels on the longer side of an image
    "ratio": 200,  # longer side by shorter: resizing the shorter one multiplies the longer
    "characters": 100_000,  # of a caption; the longest real one of the known sets has under 10,000
    "captions": 5_000_000,  # of a data set
    "members": 2_000_000,  # of an archive
    "queries": 100_000_000,  # rows of queries.parquet
    "rows": 1_000_000,  # rows of rows.jsonl
    "conditions": 1_000,  # of a probe, and of a run
    "suite": 200,  # probes that a suite stands for
    "transforms": 50,  # of a condition
    "filler": 10_000,  # sentences or pad ids that a transform adds
    "setting": 1_000,  # entries of a list among the settings of a probe's kind, and each whole number but of captions
}
"""The largest count of each kind."""

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "KIB": KIB, "MIB": MIB, "GIB": GIB}
_AMOUNT = re.compile(r"(\d{1,18})\s*([KMG]?)(?:B|(IB))?", re.IGNORECASE)
_LARGEST_DIRECTORY = 256 * MIB
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOCTTY", 0)


def variable(kind: str) -> str:
    """The environment variable that sets the limit of a kind: ``CLIPBIAS_LIMIT_IMAGE`` and so on."""
    return f"CLIPBIAS_LIMIT_{kind.upper()}"


def size_limit(kind: str) -> int:
    """Bytes that a file of this kind may have, from `SIZES` or the environment.

    Raises:
        UserError: the environment says something that is no amount.
    """
    return _from_environment(f"{kind}_bytes", SIZES[kind])


def count_limit(kind: str) -> int:
    """How many of this kind there may be, from `COUNTS` or the environment.

    Raises:
        UserError: the environment says something that is no amount.
    """
    return _from_environment(kind, COUNTS[kind])


def _from_environment(kind: str, default: int) -> int:
    text = os.environ.get(variable(kind), "")
    if not text:
        return default
    found = _AMOUNT.fullmatch(text.strip())
    if found is None:
        raise UserError(f"{variable(kind)}={text[:40]!r}: write a whole number, as 500MB, 2GiB or 100000")
    return int(found[1]) * _UNITS[(found[2] + (found[3] or "")).upper()]


def check_count(kind: str, found: int, where: str, what: str = "") -> int:
    """``found``, where it is within the limit of its kind.

    Raises:
        UserError: it is not; the line says where, how many, the limit and what raises it.
    """
    most = count_limit(kind)
    if found > most:
        raise UserError(f"{where}: {found:,} {what or kind} (limit {most:,}; {variable(kind)} sets it)")
    return found


def require_file(path: Path, kind: str, limit: int | None = None) -> os.stat_result:
    """The state of a regular file of at most its kind's size, for libraries that open it by its path.

    Args:
        path: the file; a link counts as what it leads to.
        kind: one of `SIZES`.
        limit: bytes, instead of the kind's limit.

    Raises:
        UserError: missing, not a regular file (pipe, socket, device, folder), or too large.
    """
    try:
        state = os.stat(path)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    return _judged(path, state, kind, limit)


def _judged(path: Path, state: os.stat_result, kind: str, limit: int | None) -> os.stat_result:
    if not stat.S_ISREG(state.st_mode):
        raise UserError(f"{path}: {_kind_of_file(state.st_mode)}, not a regular file; not opened")
    most = size_limit(kind) if limit is None else limit
    if state.st_size > most:
        raise UserError(
            f"{path}: {state.st_size:,} bytes (limit {most:,} for files of the kind {kind!r}; "
            f"{variable(f'{kind}_bytes')} sets it)"
        )
    return state


def _kind_of_file(mode: int) -> str:
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def _unreadable(path: Path, error: OSError | ValueError) -> UserError:
    if isinstance(error, FileNotFoundError):
        return UserError(f"{path}: missing")
    return UserError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})")


def require_zip(path: Path, kind: str) -> None:
    """Refuse a zip file whose directory would fill the memory before its first member is looked at.

    Args:
        path: a zip file, see `require_file`.
        kind: one of `SIZES`.

    Raises:
        UserError: as `open_file`, or its directory is larger than `_LARGEST_DIRECTORY`.
    """
    with open_file(path, kind) as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - 65_600))
        tail = file.read(65_600)
    # The end record holds the directory's size at byte 12; that of zip64 at byte 40, where the former holds 2**32 - 1.
    sizes = [
        int.from_bytes(tail[found.start() + at : found.start() + at + width], "little")
        for mark, at, width in ((b"PK\x05\x06", 12, 4), (b"PK\x06\x06", 40, 8))
        for found in re.finditer(re.escape(mark), tail)
    ]
    found_size = max((size for size in sizes if size != 2**32 - 1), default=0)
    if found_size > _LARGEST_DIRECTORY:
        raise UserError(f"{path}: its directory has {found_size:,} bytes (limit {_LARGEST_DIRECTORY:,}); not opened")


def open_file(path: Path, kind: str, limit: int | None = None) -> BinaryIO:
    """A regular file, open for reading bytes.

    Args:
        path: the file; a link counts as what it leads to.
        kind: one of `SIZES`.
        limit: bytes, instead of the kind's limit.

    Raises:
        UserError: as `require_file`, or it may not be read.
    """
    require_file(path, kind, limit)
    try:
        handle = os.open(path, _FLAGS)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    try:
        # What lies at the path may be another file by now; what is open stays what it is.
        _judged(path, os.fstat(handle), kind, limit)
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_bytes(path: Path, kind: str, limit: int | None = None) -> bytes:
    """All of a file.

    Raises:
        UserError: as `open_file`, or it holds more than it said (a file that grows).
    """
    most = size_limit(kind) if limit is None else limit
    with open_file(path, kind, limit) as file:
        try:
            content = file.read(most + 1)
        except OSError as error:
            raise _unreadable(path, error) from error
    # A file that cannot be read now (O_NONBLOCK) reads as None.
    if content is None or len(content) > most:
        raise UserError(f"{path}: more than {most:,} bytes, or not readable at once; not a file of the kind {kind!r}")
    return content


def read_text(path: Path, kind: str, limit: int | None = None) -> str:
    """All of a UTF-8 file, with or without a byte order mark; line ends as they are.

    Raises:
        UserError: as `read_bytes`, or not UTF-8 (names the byte).
    """
    try:
        return read_bytes(path, kind, limit).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise not_utf8(path, error) from error


def not_utf8(path: Path, error: UnicodeDecodeError, line: int | None = None) -> UserError:
    """The error that says where a file stops being UTF-8."""
    place = f"byte {error.start:,}" if line is None else f"line {line:,}"
    return UserError(
        f"{path}: not UTF-8 text at {place} (0x{error.object[error.start]:02x}); convert the file to UTF-8"
    )


def read_lines(path: Path, kind: str, limit: int | None = None) -> Iterator[bytes]:
    """The lines of a file in constant memory, with their ends.

    Raises:
        UserError: as `open_file`, or a line is longer than the limit of the kind "line".
    """
    longest = size_limit("line")
    with open_file(path, kind, limit) as file:
        number = 0
        while True:
            try:
                line = file.readline(longest + 1)
            except OSError as error:
                raise _unreadable(path, error) from error
            if not line:
                return
            number += 1
            if len(line) > longest:
                raise UserError(
                    f"{path}, line {number:,}: longer than {longest:,} bytes ({variable('line_bytes')} sets the limit)"
                )
            yield line
