"""Building open_clip's modules for OpenAI-style checkpoints."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from clipbias.errors import UserError

if TYPE_CHECKING:
    from open_clip.model import CustomTextCLIP

VOCABULARY = 49_408
HEAD_WIDTH = 64


@dataclass(frozen=True)
class ClipShape:
    """What decides the modules of an OpenAI-style ViT CLIP; heads are width / 64 in both towers."""

    embed_dim: int
    image_size: int
    patch_size: int
    vision_width: int
    vision_layers: int
    text_width: int
    text_layers: int
    context_length: int


_MOST = {"image_size": 2048, "context_length": 4096, "vision_layers": 256, "text_layers": 256}


def require_size(shape: ClipShape) -> None:
    """Refuse sizes that no CLIP has, before anything is made of them: masks and activations grow with their square.

    Raises:
        UserError: names the size.
    """
    for name, most in _MOST.items():
        if getattr(shape, name) > most:
            raise UserError(
                f"{name.replace('_', ' ')} {getattr(shape, name):,} is above the limit of {most:,}; refused"
            )


def build_clip(shape: ClipShape, meta: bool = False, quick_gelu: bool = True) -> CustomTextCLIP:
    """open_clip's ``CustomTextCLIP`` (causal text tower read at EOT) of this shape.

    Args:
        shape: sizes.
        meta: build without memory and without initialisation, for weights that are assigned next.
        quick_gelu: OpenAI's activation; False: GELU.
    """
    from open_clip.model import CLIPTextCfg, CLIPVisionCfg, CustomTextCLIP

    vision = CLIPVisionCfg(
        layers=shape.vision_layers,
        width=shape.vision_width,
        head_width=HEAD_WIDTH,
        patch_size=shape.patch_size,
        image_size=shape.image_size,
    )
    text = CLIPTextCfg(
        context_length=shape.context_length,
        vocab_size=VOCABULARY,
        width=shape.text_width,
        heads=shape.text_width // HEAD_WIDTH,
        layers=shape.text_layers,
    )
    with torch.device("meta") if meta else nullcontext():
        return CustomTextCLIP(shape.embed_dim, vision, text, quick_gelu=quick_gelu)
