"""Long-CLIP: OpenAI's names with two position tables; rows below 20 from the base, the others from ``_res``."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from clipbias.models.entry import ModelEntry
from clipbias.models.layouts import State, join_positions, openai_to_custom

SQUARE = False
MODELS = {
    f"nano-{name}": ModelEntry("longclip", "nano ViT/16, 48 px", 248, 128, "package", f"nano-{name}.pt", "4 MB")
    for name in ("longclip", "drop", "sample", "debias")
} | {
    "longclip-b16": ModelEntry(
        "longclip", "ViT-B/16", 248, 512, "hub:BeichenZhang/LongCLIP-B", "longclip-B.pt", "300 MB"
    ),
    "longclip-l14": ModelEntry(
        "longclip", "ViT-L/14", 248, 768, "hub:BeichenZhang/LongCLIP-L", "longclip-L.pt", "900 MB"
    ),
}


def recognise(state: Mapping[str, Tensor]) -> str | None:
    """Long-CLIP's files have a top-level ``positional_embedding_res``."""
    return "it has a top-level positional_embedding_res" if "positional_embedding_res" in state else None


def read(state: Mapping[str, Tensor]) -> tuple[State, dict[str, str]]:
    """Both tables are joined into the one that Long-CLIP's forward pass sums up to."""
    joined = dict(state)
    joined["positional_embedding"] = join_positions(
        joined["positional_embedding"], joined.pop("positional_embedding_res")
    )
    return openai_to_custom(joined), {}
