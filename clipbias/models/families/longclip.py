"""Long-CLIP: OpenAI's names with two position tables; rows below 20 from the base, the others from ``_res``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from clipbias.models.entry import ModelEntry

if TYPE_CHECKING:
    from torch import Tensor

    from clipbias.models.layouts import State

SQUARE = False
_TABLE, _EXTRA = "positional_embedding", ("mask_net.",)  # SmartCLIP's, which a global feature does not go through


def _entry(backbone: str, dim: int, source: str, size: str, sha256: str = "", **more: Any) -> ModelEntry:
    repository, _, file = source.rpartition("/")  # OWNER/NAME/FILE on the hub
    return ModelEntry("longclip", backbone, 248, dim, f"hub:{repository}", file, size, sha256, **more)


TITLES = {
    "longclip": "Long-CLIP", "smartclip": "SmartCLIP", "himoclip": "HiMo-CLIP", "nano-longclip": "nano Long-CLIP",
    "nano-drop": "nano + summary drop", "nano-sample": "nano + sampling", "nano-debias": "nano DeBias-CLIP",
}  # fmt: skip
MODELS = {
    f"nano-{name}": ModelEntry("longclip", "nano ViT/16, 48 px", 248, 128, "package", f"nano-{name}.pt", "4 MB")
    for name in ("longclip", "drop", "sample", "debias")
} | {
    "longclip-b32": _entry("ViT-B/32", 512, "BeichenZhang/LongCLIP-B-32/longclip-B-32.pt", "606 MB",
                           "a0b92baca8e8fe330abd5f16711e901a4ee05c76fbb80c5d41db45cbc356a3b5"),
    "longclip-b16": _entry("ViT-B/16", 512, "BeichenZhang/LongCLIP-B/longclip-B.pt", "599 MB",
                           "ca2face3716d60473a4e284e5be2cf0a1f3a4ad9954a6a651d878e814cc0c894"),
    "longclip-l14": _entry("ViT-L/14", 768, "BeichenZhang/LongCLIP-L/longclip-L.pt", "1.71 GB",
                           "9d2c12ffcbf9099f95bfb9cf8f08f949b695e22fb0018e8895e088f4a88b6afd",
                           versions=(("60c077e512cd95ca9fe7b13285e4e2c99073f8d6df7113eb6d2979919db397b2",
                                      "this is the upload of March 2024, which its authors replaced in May 2024"),)),
    "longclip-l14-336": _entry("ViT-L/14, 336 px", 768, "BeichenZhang/LongCLIP-L-336px/longclip-L@336px.pt", "1.7 GB",
                           "e1db70e8b27f35a686435027718d18990614c7c9f1c5b77a08a1ea3fdb1ab060", note="digest of a copy"),
    "smartclip-b16": _entry("ViT-B/16", 512, "Shaoan/SmartCLIP/smartclip_b16.pt", "612 MB"),
    "smartclip-l14": _entry("ViT-L/14", 768, "Shaoan/SmartCLIP/smartclip_l14.pt", "1.74 GB"),
    "himoclip-l14": _entry("ViT-L/14", 768, "5RJ/HiMo-CLIP/himo-clip_L.pt", ""),
}  # fmt: skip


def recognise(state: Mapping[str, Tensor]) -> str | None:
    """Long-CLIP's files have a top-level ``positional_embedding_res``."""
    return f"it has a top-level {_TABLE}_res" if f"{_TABLE}_res" in state else None


def read(state: Mapping[str, Tensor]) -> tuple[State, dict[str, str]]:
    """Both tables are joined into one; what else SmartCLIP's files have is left out, and the result names it."""
    from clipbias.models.layouts import join_positions, openai_to_custom

    joined = {key: value for key, value in state.items() if not key.startswith(_EXTRA)}
    extra = sorted({key.split(".")[0] for key in state.keys() - joined})
    joined[_TABLE] = join_positions(joined[_TABLE], joined.pop(f"{_TABLE}_res"))
    return openai_to_custom(joined), {"left_out": ", ".join(extra)} if extra else {}
