"""Digests of image files, each read once: kept in the cache folder by size and times of change.

A record is believed while size, modification time, change time and inode are what they were (a program can set the
modification time back, not the change time), and the table carries a digest of itself, so that a damaged one is left
out. A file that changed less than `_SETTLED` seconds ago is not recorded: a second change within the clock's step would
not show.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from clipbias.data.roots import cache_folder
from clipbias.errors import UserError
from clipbias.files import atomic_path
from clipbias.gate import open_file, read_bytes, require_file

_SETTLED = 2.0
_HEAD = b"clipbias digests 1\n"

Stamp = tuple[int, int, int, int]
"""Size, modification time and change time in ns, inode."""


def file_digest(path: Path) -> bytes:
    """BLAKE2b (32 bytes) over a file.

    Raises:
        UserError: missing, no regular file, too large for an image, or not readable.
    """
    with open_file(path, "image") as file:
        try:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=32)).digest()  # type: ignore[arg-type]
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from error


def file_digests(root: Path, paths: Sequence[Path], workers: int | None = None) -> list[bytes | None]:
    """The digest of each file, those that did not change since the last call from the table; None where unreadable.

    Args:
        root: the data set's folder, which the table is called after.
        paths: files, below it or not.
        workers: threads (hashing releases Python's lock); default one a core.
    """
    table = cache_folder() / "digests" / f"clipbias-{hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:24]}.bin"
    known = dict(_records(table))
    began = time.time_ns()

    def one(path: Path) -> tuple[Stamp | None, bytes | None]:
        try:
            stamp = _stamp(require_file(path, "image"))
            kept = known.get(os.fsencode(path))
            if kept is not None and kept[0] == stamp:
                return kept
            digest = file_digest(path)
            settled = max(stamp[1], stamp[2]) < began - _SETTLED * 1e9 and _stamp(os.stat(path)) == stamp
            return (stamp if settled else None), digest
        except (UserError, OSError):
            return None, None

    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        found = list(pool.map(one, paths))
    fresh = {os.fsencode(path): (s, d) for path, (s, d) in zip(paths, found, strict=True) if s is not None and d}
    if any(known.get(name) != record for name, record in fresh.items()):
        with suppress(UserError):  # a cache that cannot be written to is no reason to stop
            _write(table, known | fresh)
    return [digest for _, digest in found]


def content_digests(count: int, pixels: Callable[[int], object]) -> Iterator[bytes | None]:
    """Digests of decoded images, for loaders that do not say what their images are made from; None where unreadable.

    Args:
        count: of images.
        pixels: index -> PIL image.
    """
    for index in range(count):
        try:
            image = pixels(index)
            head = f"{image.mode} {image.size}".encode()  # type: ignore[attr-defined]
            yield hashlib.blake2b(head + image.tobytes(), digest_size=32).digest()  # type: ignore[attr-defined]
        except UserError:
            yield None


def _stamp(state: os.stat_result) -> Stamp:
    return state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino


def _records(table: Path) -> Iterator[tuple[bytes, tuple[Stamp, bytes]]]:
    """What a table holds; nothing where there is none or it is damaged."""
    try:
        content = read_bytes(table, "table")
    except UserError:
        return
    body, seal = content[:-32], content[-32:]
    if not body.startswith(_HEAD) or hashlib.blake2b(body, digest_size=32).digest() != seal:
        return
    for line in body[len(_HEAD) :].split(b"\0\n")[:-1]:
        size, modified, changed, inode, digest, name = line.split(b" ", 5)
        yield name, ((int(size), int(modified), int(changed), int(inode)), bytes.fromhex(digest.decode()))


def _write(table: Path, records: dict[bytes, tuple[Stamp, bytes]]) -> None:
    body = _HEAD + b"".join(
        b"%d %d %d %d %s %s\0\n" % (*stamp, digest.hex().encode(), name) for name, (stamp, digest) in records.items()
    )
    with atomic_path(table) as path:
        path.write_bytes(body + hashlib.blake2b(body, digest_size=32).digest())
