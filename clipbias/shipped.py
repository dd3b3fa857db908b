"""Where the files that ship beside the code lie: probe specs and leaderboards."""

from __future__ import annotations

from pathlib import Path

WORLD = "scenes-2"
"""The data set that the packaged nano models are trained on; the default where no data set is named."""
_PACKAGE = Path(__file__).parent


def shipped(folder: str) -> Path:
    """The folder ``probes`` or ``leaderboards``: inside an installed wheel, else in the source tree."""
    installed = _PACKAGE / "_shipped" / folder
    return installed if installed.is_dir() else _PACKAGE.parent / folder
