"""DeBias-CLIP: open_clip's custom-text names under ``state_dict``, two position tables."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from clipbias.errors import UserError
from clipbias.models.layouts import State, join_positions

SQUARE = False
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
    if positions not in ("official", "saved"):
        raise UserError(f"debias option positions={positions!r}: choose official or saved")
    out = dict(state)
    res = out.pop(_RES)
    if positions == "saved":
        out[_BASE] = join_positions(out[_BASE], res)
    return out, {"positions": positions}
