"""Archives from anybody: unpacked into one folder, or refused; no member leaves it and no link is made."""

from __future__ import annotations

import os
import shutil
import stat
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

from clipbias.data.images import safe_name
from clipbias.data.tars import open_tar
from clipbias.errors import UserError
from clipbias.files import own_folder
from clipbias.gate import check_count, require_file, require_zip, size_limit

Member = tuple[str, int, Callable[[], IO[bytes] | None]]
"""Name, stated size, and how to open it."""

_CHUNK = 1 << 20


def unpack(
    archive: Path,
    folder: Path,
    only: Sequence[str] = (),
    progress: Callable[[str, int, int], None] | None = None,
    most: int | None = None,
) -> int:
    """Unpack a .zip or .tar (compressed or not) into ``folder``; the number of files.

    Everything is written beside its place first and moved there once the whole archive was read: an archive that is
    refused, cut or cannot be written leaves nothing. Files of the same name are replaced; what a killed call left
    beside its place is removed by the next.

    Args:
        archive: the file.
        folder: where to.
        only: members to take, by the beginning of their names; empty for all.
        progress: called with ("unpacked", members done, members in all or 0 where not known).
        most: bytes that all members may have together, taken or not; default the limit of ``unpacked``.

    Raises:
        UserError: not an archive, damaged, encrypted, too large, or with a member that leads out of the folder, is a
            link or a device, or is larger than it says.
    """
    require_file(archive, "archive")
    folder.mkdir(parents=True, exist_ok=True)
    with own_folder(folder, "unpacked") as temporary:
        try:
            files = _write_members(archive, temporary, only, progress, size_limit("unpacked") if most is None else most)
            for name in files:
                target = folder / name
                if not _real_folder(target.parent, folder):
                    raise UserError(f"{target.parent}: a link leads out of {folder}; nothing is written through it")
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(temporary / name, target)
            return len(files)
        except UserError:
            raise
        except OSError as error:
            raise UserError(f"{archive}: cannot be unpacked into {folder} ({error.strerror or error})") from error
        # Readers of damaged archives raise a dozen types: BadZipFile, TarError, EOFError, zlib.error, LZMAError, ...
        except Exception as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise UserError(
                f"{archive}: not an archive, damaged or encrypted ({reason}); nothing was unpacked"
            ) from error


def _real_folder(place: Path, root: Path) -> bool:
    return place.resolve().is_relative_to(root.resolve())


def _write_members(
    archive: Path, folder: Path, only: Sequence[str], progress: Callable[[str, int, int], None] | None, most: int
) -> list[str]:
    seen: dict[str, None] = {}
    total = 0
    for number, (name, size, open_member) in enumerate(_members(archive), 1):
        if progress is not None and number % 64 == 0:
            progress("unpacked", number, 0)
        check_count("members", number, str(archive), "members or more")
        # Those not taken count too: to pass over a member its data are decompressed.
        total += size
        if total > most:
            raise UserError(f"{archive}: more than {most:,} bytes when unpacked (the limit); not unpacked")
        if only and not name.startswith(tuple(only)):
            continue
        path = safe_name(name, str(archive))
        if path in seen:
            raise UserError(f"{archive}: holds {name[:100]!r} twice; not unpacked")
        seen[path] = None
        if size > shutil.disk_usage(folder).free:
            raise UserError(f"{archive}: {name[:100]!r} of {size:,} bytes does not fit on the disk")
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        source = open_member()
        if source is None:
            raise UserError(f"{archive}: {name[:100]!r} cannot be read")
        with source, target.open("xb") as out:
            _copy(source, out, size, f"{archive}: {name[:100]!r}")
    if not seen:
        raise UserError(f"{archive}: holds none of the files expected in it ({', '.join(only) or 'it is empty'})")
    return list(seen)


def _copy(source: IO[bytes], out: IO[bytes], size: int, label: str) -> None:
    """Copy, refusing a member that is larger or smaller than the archive says (a decompression bomb, a cut file)."""
    left = size
    while chunk := source.read(_CHUNK):
        left -= len(chunk)
        if left < 0:
            raise UserError(f"{label} is larger than the archive says; not unpacked")
        out.write(chunk)
    if left:
        raise UserError(f"{label} is cut short; not unpacked")


def _members(archive: Path) -> Iterator[Member]:
    """The regular files of an archive, in its order.

    Raises:
        UserError: a link or a device in it.
        TarError, BadZipFile: neither kind of archive, or damaged.
    """
    if zipfile.is_zipfile(archive):
        require_zip(archive, "archive")
        with zipfile.ZipFile(archive) as packed:
            for info in packed.infolist():
                kind = stat.S_IFMT(info.external_attr >> 16)
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise UserError(f"{archive}: {info.filename[:100]!r} is a link or a device; not unpacked")
                if not info.is_dir():
                    yield info.filename, info.file_size, lambda info=info: packed.open(info)  # type: ignore[misc]
        return
    with open_tar(archive) as members:
        for tar, member in members:
            if not (member.isreg() or member.isdir()):
                raise UserError(f"{archive}: {member.name[:100]!r} is a link or a device; not unpacked")
            if member.isreg():
                yield member.name, member.size, lambda tar=tar, member=member: tar.extractfile(member)  # type: ignore[misc]
