"""Finding a named model's file (given, packaged, in the user's folder, cached or downloaded), and checking it."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from clipbias.data.roots import cache_folder
from clipbias.errors import UserError
from clipbias.files import write_text
from clipbias.formats import read_json
from clipbias.models.entry import PACKAGED, ModelEntry
from clipbias.models.hub import cached_file, hub_file, out_of_reach, require_repository
from clipbias.models.libraries.openclip_names import require_open_clip

log = logging.getLogger(__name__)
WEIGHTS_VARIABLE = "CLIPBIAS_WEIGHTS"


def find_weights(name: str, entry: ModelEntry, weights: str | Path | None = None, revision: str | None = None) -> Path:
    """The checkpoint file of a named model.

    Args:
        name: the model's.
        entry: what is known of it.
        weights: a file that is given.
        revision: of the hub's repository instead of the one that is pinned; its digest is then not known.

    Raises:
        UserError: it is nowhere, or is another file; the message says where was looked and what to pass.
    """
    if weights is not None:
        if not Path(weights).exists():
            raise UserError(f"{weights}: no such weights file for {name}")
        return Path(weights)
    if revision and not entry.hub:
        raise UserError(f"{name} does not come from the Hugging Face hub and has no revisions ({entry.where})")
    if revision:
        return hub_file(entry.hub, entry.file, revision)
    found = local_weights(entry)
    if found is not None:
        return found
    if not entry.hub:
        raise _nowhere(name, entry)
    try:
        return checked(hub_file(entry.hub, entry.file, entry.revision or None), entry)
    except UserError as error:
        if "SHA-256" in str(error):
            raise
        raise _nowhere(name, entry, str(error)) from error


def require_weights(name: str, entry: ModelEntry) -> None:
    """Refuse a model whose file is neither here nor can be downloaded; nothing large is imported or read for it.

    Raises:
        UserError: as `find_weights`.
    """
    if entry.family == "openclip":
        source = library_source(entry)
        if not Path(source).is_dir():
            require_open_clip(source)
    elif entry.source.startswith("hf:"):
        if not Path(library_source(entry)).is_dir():
            require_repository(entry.hub)
    elif local_weights(entry, check=False) is None:
        reason = out_of_reach() if entry.hub else ""
        if reason or not entry.hub:
            raise _nowhere(name, entry, reason)


def _nowhere(name: str, entry: ModelEntry, reason: str = "") -> UserError:
    """The error for a model whose file is not found; ``reason``: why the hub did not give it."""
    folder = os.environ.get(WEIGHTS_VARIABLE)
    names = [entry.file, *(other for other, _ in entry.others)]
    looked = [f"{folder} (for {' or '.join(names)})" if folder else f"the folder in {WEIGHTS_VARIABLE} (not set)"]
    looked += [f"the Hugging Face cache and hub ({reason})"] if reason else []
    return UserError(
        f"{name} needs {entry.where}, and it was not found in {' nor in '.join(looked)}; "
        f"get it and pass --weights FILE, or put it into a folder and name that in {WEIGHTS_VARIABLE}"
    )


def local_weights(entry: ModelEntry, check: bool = True) -> Path | None:
    """The file of a model where it is on this machine already.

    Args:
        entry: the model.
        check: compare its SHA-256 where that is known; read once, then remembered by size and time of change.

    Raises:
        UserError: the file is there and is another one.
    """
    if entry.source == "package":
        return PACKAGED / entry.file
    folder = os.environ.get(WEIGHTS_VARIABLE)
    for file, sha256 in ((entry.file, entry.sha256), *entry.others):
        # The hub calls many models' files the same: in a folder of many models they lie in one of their own.
        for place in (file, f"{entry.source.rpartition('/')[2]}/{file}"):
            if folder and file and (Path(folder) / place).is_file() and place != "model.safetensors":
                return checked(Path(folder) / place, entry, sha256) if check else Path(folder) / place
    if entry.hub:
        for revision in dict.fromkeys((entry.revision or None, None)):
            cached = cached_file(entry.hub, entry.file, revision)
            if cached is not None:
                return checked(cached, entry) if check else cached
    return None


def library_source(entry: ModelEntry) -> str:
    """Where a library finds the model of an entry: in its own folder among the user's weights, or at the source."""
    folder = Path(os.environ.get(WEIGHTS_VARIABLE, "")) / entry.source.rpartition("/")[2]
    if os.environ.get(WEIGHTS_VARIABLE) and (folder / "config.json").is_file():
        return str(folder)
    return entry.source.partition(":")[2] + (f"@{entry.revision}" if entry.revision else "")


def checked(path: Path, entry: ModelEntry, sha256: str | None = None) -> Path:
    """``path`` where it is the file of ``entry``, or a version of it that is known by name.

    Raises:
        UserError: it is another file.
    """
    wanted = entry.sha256 if sha256 is None else sha256
    if not wanted:
        log.info("%s: no SHA-256 is known of this file; it is not checked", path)
        return path
    found = file_digest(path)
    known = dict(entry.versions)
    if found in known:
        log.warning("%s: %s", path, known[found])
    elif found != wanted:
        raise UserError(f"{path}: its SHA-256 is {found}, not the {wanted} its authors' file has")
    return path


def file_digest(path: Path) -> str:
    """The SHA-256 of a file, read once: remembered in the cache folder by size and time of change."""
    status = path.stat()
    key, state = str(path.resolve()), [status.st_size, status.st_mtime_ns]
    memory = _memory()
    kept = memory.get(key)
    if isinstance(kept, list) and kept[:2] == state and len(kept) == 3:
        return str(kept[2])
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    # A cache that cannot be written costs only time.
    with suppress(UserError):
        write_text(_memory_file(), json.dumps({**memory, key: [*state, found]}))
    return found


def _memory_file() -> Path:
    return cache_folder() / "digests.json"


def _memory() -> Mapping[str, object]:
    try:
        content = read_json(_memory_file())
    except UserError:
        return {}
    return content if isinstance(content, dict) else {}
