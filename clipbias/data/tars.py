"""Tar files of anybody, read with Python's tarfile made strict: what it would follow, loop over or allocate is refused.

Whatever the interpreter: members and blocks of negative size (CVE-2025-8194: an endless loop), sparse members, and
extended headers larger than any name needs (parsing takes time in the square of their size) are refused.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from clipbias.errors import UserError
from clipbias.gate import check_count, count_limit, require_file

_LONGEST_HEADER = 8192


class _StrictInfo(tarfile.TarInfo):
    """A member's header that refuses instead of guessing; the methods are those that tarfile dispatches to."""

    def _block(self, count: int) -> int:
        if count < 0:
            raise tarfile.ReadError("a negative size")
        return super()._block(count)  # type: ignore[misc]

    def _proc_member(self, archive: tarfile.TarFile) -> Any:
        if self.size < 0:
            raise tarfile.ReadError("a member of negative size")
        extended = self.type in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
        if (extended or self.type in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)) and (
            self.size > _LONGEST_HEADER
        ):
            raise tarfile.ReadError(f"an extended header of {self.size:,} bytes")
        return super()._proc_member(archive)  # type: ignore[misc]

    def _refuse_sparse(self, *_: object) -> NoReturn:
        raise tarfile.ReadError("a sparse member")

    _proc_sparse = _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _refuse_sparse


@contextmanager
def open_tar(path: Path, compressed: bool = True) -> Iterator[Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]]:
    """The members of a tar file, each with the archive to extract it from.

    Args:
        path: the file.
        compressed: whether gzip, bzip2 and xz are taken too.

    Raises:
        UserError: missing, no regular file, too large, no tar file, damaged, with too many members or refused headers;
            whatever tarfile raises inside the block too.
    """
    require_file(path, "archive")
    try:
        with tarfile.open(path, "r:*" if compressed else "r:", tarinfo=_StrictInfo) as archive:
            yield _members(path, archive)
    except (UserError, MemoryError):
        raise
    # Damaged archives raise a dozen types: TarError, EOFError, zlib.error, LZMAError, ValueError, struct.error, ...
    except (OSError, ValueError, ArithmeticError, EOFError, LookupError, RecursionError, tarfile.TarError) as error:
        raise _damaged(path, error) from error
    except Exception as error:
        if type(error).__module__ not in ("zlib", "_lzma", "lzma", "struct", "_struct"):
            raise
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> UserError:
    reason = (str(error) or type(error).__name__).splitlines()[0][:150]
    return UserError(f"{path}: not a readable tar file, or damaged ({reason})")


def _members(path: Path, archive: tarfile.TarFile) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    most, end = count_limit("members"), -1
    for number, member in enumerate(archive, 1):
        if number > most:
            check_count("members", number, str(path), "members or more")
        if member.size < 0 or member.offset <= end:
            raise tarfile.ReadError(f"{member.name[:100]!r} lies where it cannot")
        end = member.offset
        # tarfile keeps every member that it has seen; nothing here goes back.
        archive.members = []  # type: ignore[attr-defined]
        yield archive, member
