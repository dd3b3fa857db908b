"""FG-CLIP (v1): Hugging Face's CLIP names, a short mode at 77 tokens and a long one at 248."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from clipbias.errors import UserError
from clipbias.models.entry import ModelEntry

if TYPE_CHECKING:
    from torch import Tensor

    from clipbias.models.layouts import State
    from clipbias.models.tokenizer import Cleaning

SQUARE = True
CLEANING: Cleaning = "huggingface"
_FILE = "model.safetensors"
TITLES = {"fgclip": "FG-CLIP"}
MODELS = {
    "fgclip-b16": ModelEntry(
        "fgclip", "ViT-B/16", 248, 512, "hub:qihoo360/fg-clip-base", _FILE,
        revision="454d76372c2cf5eb48fa0d871fd0534481484d97",
    ),
    "fgclip-l14": ModelEntry(
        "fgclip", "ViT-L/14, 336 px", 248, 768, "hub:qihoo360/fg-clip-large", _FILE,
        revision="5a8f0f23b5a06dc92310e907599b2a0c2d58fe6f",
    ),
}  # fmt: skip


def recognise(state: Mapping[str, Tensor]) -> str | None:
    """FG-CLIP's files have a ``text_filip_projection``."""
    return "it has text_filip_projection.weight" if "text_filip_projection.weight" in state else None


def read(state: Mapping[str, Tensor], context: str | int = 248) -> tuple[State, dict[str, str]]:
    """``context=248``: both long position tables and ``text_filip_projection``; ``77``: the authors' short mode.

    Raises:
        UserError: another context.
    """
    from clipbias.models.hub_names import TABLE, from_hub
    from clipbias.models.layouts import join_positions

    if str(context) not in ("77", "248"):
        raise UserError(f"fgclip option context={context!r}: choose 248 or 77")
    state = dict(state)
    if str(context) == "248":
        state[f"{TABLE}.weight"] = join_positions(state[f"{TABLE}_ori.weight"], state[f"{TABLE}_res.weight"])
        state["text_projection.weight"] = state["text_filip_projection.weight"]
    return from_hub(state), {"context": str(context)}
