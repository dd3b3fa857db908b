"""Writing files whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from clipbias.errors import UserError


def content_key(*parts: bytes) -> bytes:
    """16 bytes of BLAKE2b over the parts and their lengths: the same content, the same key."""
    found = hashlib.blake2b(digest_size=16)
    for part in parts:
        found.update(len(part).to_bytes(8, "big") + part)
    return found.digest()


@lru_cache(maxsize=1)
def _place() -> str:
    """8 hex digits for where process numbers mean the same: this machine, since it was started, in this container."""
    facts = [platform.node()]
    for file in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"):
        with suppress(OSError):
            facts.append(os.readlink(file) if file.endswith("pid") else Path(file).read_text("ascii"))
    return hashlib.sha256("".join(facts).encode()).hexdigest()[:8]


def _temporary_name(name: str) -> str:
    """How temporary files of this process for ``name`` begin."""
    return f".{name[:100]}.tmp-{_place()}-{os.getpid()}-"


def _remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left of their temporary files, whatever they were to become."""
    for path in folder.glob(f".*.tmp-{_place()}-*"):
        process = path.name.rpartition(f".tmp-{_place()}-")[2].partition("-")[0]
        if process.isdecimal() and not _is_alive(int(process)):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with suppress(OSError):
                    path.unlink()


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def cannot_write(path: Path, error: OSError | ValueError, needed: int = 0, kept: str = "") -> UserError:
    """One line of a file or folder that could not be written: why, how much room there is, what to do.

    Args:
        path: the file or folder.
        error: what the system said.
        needed: bytes that the file takes, where that is known.
        kept: what stays of the work, as "what was packed is kept".
    """
    number, advice = getattr(error, "errno", None), "choose another folder"
    why = getattr(error, "strerror", None) or str(error)
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        takes = f"it takes {needed / 1e6:,.1f} MB" if needed else ""
        room = ", ".join(filter(None, (takes, _room(path, number))))
        why = f"{os.strerror(number)}{f' ({room})' if room else ''}"  # libraries have words of their own for it
        advice = f"{'raise the limit' if number == errno.EFBIG else 'make room'} or {advice}"
    return UserError(f"cannot write {str(path)[:200]}: {why}; {advice}{f'; {kept}' if kept else ''}")


def _room(path: Path, number: int) -> str:
    """What the system allows of what it did not have enough of; "" where it does not tell."""
    with suppress(OSError, ImportError):
        if number == errno.ENOSPC:
            return f"{shutil.disk_usage(path.parent).free / 1e6:,.1f} MB are free"
        if number == errno.EFBIG:
            import resource

            largest = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
            return f"a file may take {largest / 1e6:,.1f} MB, see ulimit -f" if largest >= 0 else ""
    return ""


@contextmanager
def atomic_path(target: Path, needed: int = 0) -> Iterator[Path]:
    """A temporary path beside ``target`` that replaces it when the block ends without an error.

    What killed processes left in its folder is removed. A link at the target is replaced, not followed.

    Args:
        target: the file.
        needed: bytes that it will take, where that is known; said where there is no room for them.

    Raises:
        UserError: the folder cannot be written to, the disk is full, or a folder or device is in the way; nothing
            half-written stays.
    """
    target = Path(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and not target.is_file() and not target.is_symlink():
            raise UserError(f"cannot write {target}: a folder or a device is there; choose another name")
        _remove_leftovers(target.parent)
        handle, name = tempfile.mkstemp(prefix=_temporary_name(target.name), suffix=".part", dir=target.parent)
        os.close(handle)
    except (OSError, ValueError) as error:
        raise cannot_write(target, error, needed) from error
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes files private, and so do some libraries; a result is as readable as any file its user makes.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as error:
        with suppress(OSError):  # the room that is told is what there is without it
            temporary.unlink()
        raise cannot_write(target, error, needed) from error
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


@contextmanager
def own_folder(folder: Path, name: str) -> Iterator[Path]:
    """A temporary folder below ``folder``, removed at the end; those that killed processes left are removed too.

    Raises:
        UserError: it cannot be made.
    """
    _remove_leftovers(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=_temporary_name(name), dir=folder))
    except OSError as error:
        raise cannot_write(folder, error) from error
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def folder_lock(folder: Path, wait: float = 0.0) -> Iterator[None]:
    """The block runs in one process at a time for a folder; the lock ends with its process and leaves no file.

    What killed processes left there of their temporary files is removed first.

    Args:
        folder: an output folder; made where it is not there.
        wait: seconds to wait for another process.

    Raises:
        UserError: another process has it still, or the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except (OSError, ValueError) as error:
        raise cannot_write(folder, error) from error
    try:
        until = time.monotonic() + wait
        while not _locked(handle):
            if time.monotonic() >= until:
                raise UserError(f"{folder}: another process is writing there; wait for it or choose another folder")
            time.sleep(0.05)
        _remove_leftovers(folder)
        yield
    finally:
        os.close(handle)


def _locked(handle: int) -> bool:
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return True  # a file system without locks: as before there were any
    return True


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
        # os.path says no of a name that is too long for a path, which the writing refuses in words.
        if os.path.islink(path):
            raise UserError(f"{path} is a link, and nothing is written through it; remove it or choose another folder")
    if os.path.exists(path) and not (path.is_dir() or path.is_file()):
        raise UserError(f"{path} is neither a file nor a folder; choose another folder")
    return path
