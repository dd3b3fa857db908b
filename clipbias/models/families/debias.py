"""DeBias-CLIP: open_clip's custom-text names under ``state_dict``, two position tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from clipbias.errors import UserError
from clipbias.models.entry import ModelEntry

if TYPE_CHECKING:
    from torch import Tensor

    from clipbias.models.layouts import State

SQUARE = False
_SHA256 = "5cdd75077c35ab4d074a8e430c2f7f182ff48d01858d6c345776bf5f2713aa84"
_DRIVE = "drive.google.com/file/d/1MVGMHRmFMTX2EalNOv8a3i1FnxIEyvSW/view"
TITLES = {"debias": "DeBias-CLIP"}
MODELS = {
    "debias-b16": ModelEntry(
        "debias", "ViT-B/16", 248, 512, "local", "debias_vitb_3e.pt", "1.80 GB", _SHA256, address=_DRIVE
    ),
    "debias-l14": ModelEntry(
        "debias", "ViT-L/14", 248, 768, "local", "debias_vitl_3e.pt",
        note="unverified: no public address is known and the file name is a guess; pass any file with --weights",
    ),
}  # fmt: skip
_BASE, _RES = "text.positional_embedding", "text.positional_embedding_res"


def recognise(state: Mapping[str, Tensor]) -> str | None:
    """DeBias-CLIP's files have ``text.positional_embedding_res``."""
    return f"it has {_RES}" if _RES in state else None


def read(state: Mapping[str, Tensor], positions: str = "official") -> tuple[State, dict[str, str]]:
    """``positions="official"``: as the official loader, which overwrites ``_res`` with the base table
    before use (the published numbers were made so); ``"saved"``: rows 20.. from the saved ``_res``.

    Raises:
        UserError: another value.
    """
    from clipbias.models.layouts import join_positions

    if positions not in ("official", "saved"):
        raise UserError(f"debias option positions={positions!r}: choose official or saved")
    out = dict(state)
    res = out.pop(_RES)
    if positions == "saved":
        out[_BASE] = join_positions(out[_BASE], res)
    return out, {"positions": positions}
