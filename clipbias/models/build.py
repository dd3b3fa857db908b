"""Building open_clip's modules for OpenAI-style checkpoints, and the transform that goes with them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from open_clip.model import CustomTextCLIP
    from PIL import Image

VOCABULARY = 49_408
HEAD_WIDTH = 64
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


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


def build_clip(shape: ClipShape, meta: bool = False) -> CustomTextCLIP:
    """open_clip's ``CustomTextCLIP`` (QuickGELU, causal text tower read at EOT) of this shape.

    Args:
        shape: sizes.
        meta: build without memory and without initialisation, for weights that are assigned next.
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
        return CustomTextCLIP(shape.embed_dim, vision, text, quick_gelu=True)


def clip_transform(size: int, square: bool = False) -> Callable[[Image.Image], Tensor]:
    """OpenAI CLIP's image transform: bicubic resize of the shorter side, centre crop, CLIP mean and std.

    Args:
        size: side in pixels.
        square: resize both sides instead, without cropping (FG-CLIP).
    """
    from torchvision.transforms import functional as tv

    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (CLIP_MEAN, CLIP_STD))

    def transform(image: Image.Image) -> Tensor:
        if square:
            image = image.convert("RGB")
        if image.size != (size, size):
            bicubic = tv.InterpolationMode.BICUBIC
            image = tv.resize(image, [size, size] if square else size, interpolation=bicubic)
            image = tv.center_crop(image, [size, size])
        # CLIP's authors convert after resizing: for images with a palette the two orders differ.
        image = image.convert("RGB")
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
        return (pixels - mean) / std

    return transform
