"""OpenAI CLIP: top-level names, 77 positions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from clipbias.models.entry import ModelEntry

if TYPE_CHECKING:
    from torch import Tensor

    from clipbias.models.layouts import State

SQUARE = False
_OWN = (("activation", "quickgelu"),)


def _entry(backbone: str, dim: int, hub: str, size: str, file: str, sha256: str) -> ModelEntry:
    """open_clip's copy on the hub, or OpenAI's own archive (whose address names its digest) in the user's folder."""
    others = ((file, sha256),)
    return ModelEntry(
        "openai", backbone, 77, dim, f"hub:timm/{hub}", "open_clip_model.safetensors", size, others=others, options=_OWN
    )


TITLES = {"openai": "CLIP", "nano-clip": "nano CLIP"}
MODELS = {
    "nano-clip": ModelEntry("openai", "nano ViT/16, 48 px", 77, 128, "package", "nano-clip.pt", "4 MB", options=_OWN),
    "openai-b32": _entry("ViT-B/32", 512, "vit_base_patch32_clip_224.openai", "605 MB", "ViT-B-32.pt",
                         "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"),
    "openai-b16": _entry("ViT-B/16", 512, "vit_base_patch16_clip_224.openai", "599 MB", "ViT-B-16.pt",
                         "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f"),
    "openai-l14": _entry("ViT-L/14", 768, "vit_large_patch14_clip_224.openai", "1.7 GB", "ViT-L-14.pt",
                         "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836"),
    "openai-l14-336": _entry("ViT-L/14, 336 px", 768, "vit_large_patch14_clip_336.openai", "1.7 GB",
                             "ViT-L-14-336px.pt",
                             "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02"),
}  # fmt: skip


def recognise(state: Mapping[str, Tensor]) -> str | None:
    """OpenAI's files have ``visual.conv1.weight`` and one top-level ``positional_embedding``."""
    if {"visual.conv1.weight", "positional_embedding"} <= set(state) and "positional_embedding_res" not in state:
        return "it has visual.conv1.weight and one top-level positional_embedding"
    return None


def read(state: Mapping[str, Tensor], activation: str = "auto") -> tuple[State, dict[str, str]]:
    """As the file has it; see `clipbias.models.activation`."""
    from clipbias.models.activation import openai_activation
    from clipbias.models.layouts import openai_to_custom

    return openai_to_custom(state), {"activation": openai_activation(state, activation)}
