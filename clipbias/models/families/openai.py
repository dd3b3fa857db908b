"""OpenAI CLIP: top-level names, 77 positions."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from clipbias.errors import UserError
from clipbias.models.entry import ModelEntry

if TYPE_CHECKING:
    from torch import Tensor

    from clipbias.models.layouts import State

SQUARE = False
log = logging.getLogger(__name__)
_OWN = (("activation", "quickgelu"),)
_SCALARS = {"input_resolution", "context_length", "vocab_size"}
_WIDTHS = (768, 1024)  # of OpenAI's vision towers with heads of 64; OpenCLIP's wider ones have other heads


def _entry(backbone: str, dim: int, hub: str, size: str, file: str, sha256: str) -> ModelEntry:
    """open_clip's copy on the hub, or OpenAI's own archive (whose address names its digest) in the user's folder."""
    others = ((file, sha256),)
    return ModelEntry(
        "openai", backbone, 77, dim, f"hub:timm/{hub}", "open_clip_model.safetensors", size, others=others, options=_OWN
    )


TITLES = {"openai": "CLIP", "nano-clip": "nano CLIP"}
MODELS = {
    "nano-clip": ModelEntry("openai", "nano ViT/16, 48 px", 77, 128, "package", "nano-clip.pt", "4 MB", options=_OWN),
    "openai-b32": _entry(
        "ViT-B/32", 512, "vit_base_patch32_clip_224.openai", "605 MB", "ViT-B-32.pt",
        "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af",
    ),
    "openai-b16": _entry(
        "ViT-B/16", 512, "vit_base_patch16_clip_224.openai", "599 MB", "ViT-B-16.pt",
        "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f",
    ),
    "openai-l14": _entry(
        "ViT-L/14", 768, "vit_large_patch14_clip_224.openai", "1.7 GB", "ViT-L-14.pt",
        "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836",
    ),
    "openai-l14-336": _entry(
        "ViT-L/14, 336 px", 768, "vit_large_patch14_clip_336.openai", "1.7 GB", "ViT-L-14-336px.pt",
        "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02",
    ),
}  # fmt: skip


def recognise(state: Mapping[str, Tensor]) -> str | None:
    """OpenAI's files have ``visual.conv1.weight`` and one top-level ``positional_embedding``."""
    if {"visual.conv1.weight", "positional_embedding"} <= set(state) and "positional_embedding_res" not in state:
        return "it has visual.conv1.weight and one top-level positional_embedding"
    return None


def read(state: Mapping[str, Tensor], activation: str = "auto") -> tuple[State, dict[str, str]]:
    """As the file has it.

    OpenCLIP's own checkpoints have the same names and mostly another activation, which no file states. "auto":
    QuickGELU where the file holds the scalars that OpenAI's archives hold; else QuickGELU too, and the result says that
    it is assumed.

    Raises:
        UserError: another activation, or a tower that OpenAI never published.
    """
    from clipbias.models.layouts import openai_to_custom

    if activation not in ("auto", "quickgelu", "gelu"):
        raise UserError(f"openai option activation={activation!r}: choose auto, quickgelu or gelu")
    width = len(state["visual.conv1.weight"])
    if width > max(_WIDTHS):
        raise UserError(
            f"a vision tower of width {width}, which OpenAI never published; is it OpenCLIP's? "
            "Then load it as openclip:NAME --weights FILE, such as openclip:ViT-H-14"
        )
    if activation == "auto":
        activation = "quickgelu"
        if not set(state) >= _SCALARS:
            activation += ", assumed"
            log.warning(
                "this file does not state its activation; QuickGELU (OpenAI's) is assumed. For OpenCLIP's checkpoints "
                "use openclip:NAME --weights FILE, or the option activation=gelu"
            )
    return openai_to_custom(state), {"activation": activation}
