"""Fetching data sets: resumed where a connection was cut, checked, unpacked safely, and never half there."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import shutil
import time
import urllib.error
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from clipbias.data import connection
from clipbias.data.images import inside
from clipbias.data.unpack import unpack
from clipbias.errors import UserError
from clipbias.files import atomic_path, cannot_write, write_text
from clipbias.formats import parse_json, read_toml
from clipbias.gate import read_text as read_gated
from clipbias.gate import size_limit

TABLE = Path(__file__).with_name("downloads.toml")
FOLDER = ".downloads"
"""Below a data set's folder: interrupted downloads, and a receipt for each file that was fetched and checked."""
ATTEMPTS = 5
_CHUNK = 1 << 20
_MOVES = 1 << 20
"""Bytes that a connection has to bring for the count of failures to start anew."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Source:
    """One file of a data set; see the head of ``downloads.toml``."""

    url: str
    to: str
    bytes: int | None = None
    sha256: str = ""
    md5: str = ""
    unpack: bool = False
    only: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    unpacked: int | None = None

    @property
    def name(self) -> str:
        """The file's name at its source."""
        return Path(urllib.parse.urlsplit(self.url).path).name

    @property
    def key(self) -> str:
        """What its interrupted download and its receipt are called: files of several folders may share a name."""
        return f"{self.name}.{hashlib.sha256(f'{self.url} {self.to}'.encode()).hexdigest()[:8]}"


def sources(name: str, table: Path = TABLE) -> tuple[tuple[Source, ...], str]:
    """The files that can be downloaded for a data set, and the steps that a person has to take for the rest.

    Raises:
        UserError: the table has nothing on that name.
    """
    entry: Any = read_toml(table).get(name)
    if entry is None:
        raise UserError(f"{name}: no source is known for a download; see `clipbias data list`")
    files = tuple(
        Source(**{**file, "only": tuple(file.get("only", ())), "hosts": tuple(file.get("hosts", ()))})
        for file in entry.get("files", ())
    )
    return files, entry.get("steps", "").strip()


def fetch(source: Source, root: Path, progress: Progress, attempts: int = ATTEMPTS, wait: float = 1.0) -> bool:
    """Bring one file of a data set to its place below ``root``.

    An interrupted download resumes, if the server has the same file still and takes ranges; else it
    starts anew. The size and, where it is known, the SHA-256 are checked before anything is moved or unpacked.

    Args:
        source: the file.
        root: the data set's folder.
        progress: called with (what, bytes done, bytes in all).
        attempts: connections in a row that bring nothing before it gives up.
        wait: seconds before the second of them; doubled each time.

    Returns:
        False where it was there already, by its receipt.

    Raises:
        UserError: no connection, another size or digest than stated, a hostile archive, a disk that is full.
    """
    kept = root / FOLDER
    try:
        kept.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(kept, error) from error
    try:
        with FileLock(kept / f"{source.key}.lock", timeout=0):
            return _fetch_alone(source, root, kept, progress, attempts, wait)
    except Timeout as error:
        raise UserError(f"{source.name} is being downloaded to {root} by another process; wait for it") from error


def _fetch_alone(source: Source, root: Path, kept: Path, progress: Progress, attempts: int, wait: float) -> bool:
    receipt = kept / f"{source.key}.done"
    if _is_done(receipt, source, root):
        return False
    part = kept / f"{source.key}.part"
    _download(source, part, progress, attempts, wait)
    digest, weak = _digests(part, progress)
    for name, found, stated in (("SHA-256", digest, source.sha256), ("MD5", weak, source.md5)):
        if stated and found != stated:
            part.unlink()
            raise UserError(
                f"{source.url}: {name} is {found}, expected {stated}; removed. "
                "Try again; if it stays so, the file at its source has changed"
            )
    if source.unpack:
        unpack(part, inside(root, source.to) if source.to != "." else root, source.only, progress, source.unpacked)
    else:
        target = inside(root, source.to)
        # The part and the target may lie on different disks where the folder is made of mounts.
        with atomic_path(target) as path:
            shutil.move(part, path)
    facts = {"url": source.url, "sha256": digest, "to": source.to, "only": list(source.only)}
    write_text(receipt, json.dumps(facts, indent=1) + "\n")
    for leftover in (part, _state(part)):
        leftover.unlink(missing_ok=True)
    return True


def _is_done(receipt: Path, source: Source, root: Path) -> bool:
    try:
        facts = parse_json(read_gated(receipt, "config"), receipt)
    except UserError:
        return False
    if not isinstance(facts, dict) or (facts.get("url"), facts.get("to")) != (source.url, source.to):
        return False
    if facts.get("only") != list(source.only) or (source.sha256 and facts.get("sha256") != source.sha256):
        return False
    return source.unpack or (root / source.to).is_file()


def _state(part: Path) -> Path:
    """Beside an interrupted download: which version of the file it is a part of."""
    return part.with_name(part.name + ".json")


def _digests(path: Path, progress: Progress) -> tuple[str, str]:
    """SHA-256, and MD5 for sources that state no better one."""
    digest, weak, size, done = hashlib.sha256(), hashlib.md5(usedforsecurity=False), path.stat().st_size, 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            weak.update(chunk)
            done += len(chunk)
            progress(f"checking {path.name}", done, size)
    return digest.hexdigest(), weak.hexdigest()


def _download(source: Source, part: Path, progress: Progress, attempts: int, wait: float) -> None:
    failed = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            if _connect(source, part, progress):
                return
            reason = "the connection was cut"
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code not in (408, 429):
                raise UserError(f"{source.url}: the server answers {error.code} {error.reason}") from error
            reason = f"the server answers {error.code}"
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            reason = str(getattr(error, "reason", None) or error or type(error).__name__)
        except OSError as error:
            raise cannot_write(part, error, kept="what is there is kept") from error
        if part.exists() and part.stat().st_size >= before + _MOVES:
            failed = 0  # it moves: go on for as long as it does
        failed += 1
        if failed >= attempts:
            raise UserError(
                f"{source.url}: {reason}, {attempts} times in a row; what has come is kept, the same command resumes"
            )
        time.sleep(wait * 2 ** (failed - 1))


def _connect(source: Source, part: Path, progress: Progress) -> bool:
    """One connection; whether the file is whole now.

    What comes is joined to what is there only where the answer itself names the version that was asked for: a server
    may leave If-Range unread.
    """
    have = part.stat().st_size if part.exists() else 0
    version = _read_version(part) if have else ""
    headers = {"User-Agent": "clipbias", "Accept-Encoding": "identity"}
    if version:
        headers |= {"Range": f"bytes={have}-", "If-Range": version}
    most = size_limit("archive") if source.bytes is None else source.bytes
    try:
        response = connection.connect(source.url, headers, source.hosts)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        # Nothing lies behind what is there: it is whole, or not a part of this file.
        if source.bytes == have:
            return True
        part.unlink()
        return False
    with response:
        # A weak tag ("W/...") does not promise the same bytes, so it cannot be resumed by.
        tag = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
        tag = "" if tag.startswith("W/") else tag
        there = response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        resumed = response.status == 206 and bool(version) and there and tag == version
        if response.status == 206 and not resumed:
            part.unlink(missing_ok=True)
            return False
        start = have if resumed else 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length is not None and length.isdecimal() else source.bytes
        if source.bytes is not None and total != source.bytes:
            found = f"{total:,}" if total is not None else "an unknown number of"
            raise UserError(f"{source.url}: {found} bytes there, expected {source.bytes:,}; not downloaded")
        if total is not None and total > most:
            raise UserError(f"{source.url}: {total:,} bytes (limit {most:,}); not downloaded")
        free = shutil.disk_usage(part.parent).free
        if total is not None and total - start > free:
            raise UserError(f"{source.url}: {total - start:,} bytes do not fit on the disk, {free:,} are free")
        write_text(_state(part), json.dumps({"version": tag}))
        done = start
        with part.open("ab" if resumed else "wb") as out:
            for chunk in connection.body(response):
                done += len(chunk)
                if done > (most if total is None else total):
                    break
                out.write(chunk)
                progress(source.name, done, total or 0)
            out.flush()
            os.fsync(out.fileno())
    if done > (most if total is None else total):
        part.unlink(missing_ok=True)
        raise UserError(f"{source.url}: more bytes than stated or allowed ({most:,}); removed")
    return done == total or total is None


def _read_version(part: Path) -> str:
    try:
        facts: Any = parse_json(read_gated(_state(part), "config"), part)
        return str(facts["version"])
    except (UserError, KeyError, TypeError):
        return ""
