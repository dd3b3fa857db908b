"""Writing files whole or not at all."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from clipbias.errors import UserError


def content_key(*parts: bytes) -> bytes:
    """16 bytes of BLAKE2b over the parts and their lengths: the same content, the same key."""
    found = hashlib.blake2b(digest_size=16)
    for part in parts:
        found.update(len(part).to_bytes(8, "big") + part)
    return found.digest()


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """A temporary path beside ``target`` that replaces it when the block ends without an error.

    Raises:
        UserError: the folder cannot be written to or the disk is full; nothing half-written stays.
    """
    target = Path(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
        os.close(handle)
        # mkstemp makes files private; a result is as readable as any file its user makes.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)
    except OSError as error:
        raise UserError(f"cannot write {target}: {error.strerror}; choose another folder") from error
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as error:
        raise UserError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def write_text(target: Path, text: str) -> None:
    """Replace ``target`` by ``text`` (UTF-8, line ends as given), atomically."""
    with atomic_path(target) as path:
        path.write_text(text, encoding="utf-8", newline="")


def below(folder: Path, *names: str) -> Path:
    """``folder/names...`` for writing, where nothing on the way below ``folder`` is a link.

    Args:
        folder: what the user gave as --out; may itself be a link.
        names: file names, as `clipbias.names.file_name` makes them.

    Raises:
        UserError: a link, or something else than a folder or a regular file, is in the way.
    """
    path = Path(folder)
    for name in names:
        path = path / name
        if path.is_symlink():
            raise UserError(f"{path} is a link, and nothing is written through it; remove it or choose another folder")
    if path.exists() and not (path.is_dir() or path.is_file()):
        raise UserError(f"{path} is neither a file nor a folder; choose another folder")
    return path
