"""Where data sets lie: an option, else a folder named by the environment."""

from __future__ import annotations

import os
from pathlib import Path

from clipbias.errors import UserError

DATA_VARIABLE = "CLIPBIAS_DATA"
CACHE_VARIABLE = "CLIPBIAS_CACHE"


def configured_root(name: str) -> Path | None:
    """The folder of a data set inside the one that the environment names, if it is there."""
    base = os.environ.get(DATA_VARIABLE)
    folder = Path(base) / name if base else None
    return folder if folder is not None and folder.is_dir() else None


def data_root(name: str, root: object, alike: tuple[str, ...] = ()) -> Path:
    """The folder of a data set.

    Args:
        name: the registered name.
        root: what the user passed, or None.
        alike: other names whose folder will do, e.g. "dci" for "long-dci".

    Raises:
        UserError: none was given and none is configured, or it is not there.
    """
    if root is not None:
        folder = Path(str(root)).expanduser()
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder for the data set {name}")
        return folder
    for candidate in (name, *alike):
        found = configured_root(candidate)
        if found is not None:
            return found
    raise UserError(
        f"where is {name}? Pass its folder with --root (root= in Python), "
        f"or set {DATA_VARIABLE} to the folder that holds {name}/"
    )


def cache_folder() -> Path:
    """Where indices of large annotation files are kept: ``$CLIPBIAS_CACHE``, else below the user's cache folder."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "clipbias"


def first_existing(root: Path, candidates: tuple[str, ...], what: str) -> Path:
    """The first of several places below ``root`` where users put a thing.

    Raises:
        UserError: none of them exists; names them all.
    """
    for candidate in candidates:
        if (root / candidate).exists():
            return root / candidate
    raise UserError(f"{root}: {what} not found; looked for {', '.join(candidates)}")
