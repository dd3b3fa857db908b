"""The nano architecture: OpenAI CLIP's at a size that two CPU cores can train."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clipbias.models.build import ClipShape, build_clip

if TYPE_CHECKING:
    from open_clip.model import CustomTextCLIP

NANO_SHAPE = ClipShape(
    embed_dim=128,
    image_size=48,
    patch_size=16,
    vision_width=128,
    vision_layers=4,
    text_width=128,
    text_layers=3,
    context_length=77,
)


def nano_clip(shape: ClipShape = NANO_SHAPE) -> CustomTextCLIP:
    """A nano CLIP with open_clip's fresh initialisation (draws from torch's global generator)."""
    return build_clip(shape)
