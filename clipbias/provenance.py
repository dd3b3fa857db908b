"""What made a result: versions, and the state of the clipbias source tree."""

from __future__ import annotations

import platform
import subprocess
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from clipbias import __version__

_PACKAGES = {
    "torch": "torch",
    "open_clip": "open_clip_torch",
    "numpy": "numpy",
    "pillow": "pillow",
}


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on."""
    out = {"clipbias": __version__, "python": platform.python_version()}
    for name, package in _PACKAGES.items():
        try:
            out[name] = version(package)
        except PackageNotFoundError:
            out[name] = "not installed"
    return out


@lru_cache(maxsize=1)
def source_state() -> tuple[str, bool]:
    """Commit and dirty flag of the source tree that the package lies in; ("", False) for an installed wheel."""
    root = Path(__file__).parent.parent
    if not (root / ".git").exists():
        return "", False

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--", "clipbias", "probes"))
    except (OSError, subprocess.SubprocessError):
        return "", False
