"""FG-CLIP 2: SigLIP 2's modules with NaFlex images, a short text mode at 64 tokens and a long one at 196."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from clipbias.errors import UserError
from clipbias.models.entry import ModelEntry

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from clipbias.models.layouts import State

MODEL_TYPE, BASE, IMAGES = "fgclip2", "siglip2", {"max_num_patches": [128, 256, 576, 784, 1024]}
_HUB, _FILE, TITLES = "hf:qihoo360/fg-clip2-", "model.safetensors", {"fgclip2": "FG-CLIP 2"}
MODELS = {
    f"fgclip2-{name}": ModelEntry("fgclip2", f"{size} NaFlex", 196, dim, f"{_HUB}{hub}", _FILE, revision=commit)
    for name, size, dim, hub, commit in (
        ("b16", "ViT-B/16", 768, "base", "430fbc8a912c86fd4de601381b6245a0edab22f0"),
        ("l16", "ViT-L/16", 1024, "large", "4d1d5dc35c716902f07c172dbfc23b82a7bc6bf3"),
        ("so400m", "So400m/16", 1152, "so400m", "d57d30fe94a107dd6a2610eb4e9a135004d823a4"))
}  # fmt: skip
_TABLE, _HEAD, _LONG = "text_model.embeddings.position_embedding", "text_model.head", "longtext_head"
_EXTRA = (f"{_TABLE}_ori.", f"{_TABLE}_res.", f"{_LONG}.", "boxtext_head.", "dense_feature_head.")


def recognise(state: Mapping[str, Tensor]) -> str | None:
    """FG-CLIP 2's files have a ``longtext_head``."""
    return f"it has {_LONG}.weight" if f"{_LONG}.weight" in state else None


def read(state: Mapping[str, Tensor], context: str | int = 196) -> tuple[State, dict[str, str]]:
    """``context=196``: the two long position tables and ``longtext_head``; ``64``: the authors' short mode.

    Raises:
        UserError: another context.
    """
    from clipbias.models.layouts import join_positions

    if str(context) not in ("64", "196"):
        raise UserError(f"fgclip2 option context={context!r}: choose 196 or 64")
    out = {key: value for key, value in state.items() if not key.startswith(_EXTRA)}
    if str(context) == "196":
        out[f"{_TABLE}.weight"] = join_positions(state[f"{_TABLE}_ori.weight"], state[f"{_TABLE}_res.weight"])
        out |= {f"{_HEAD}.{kind}": state[f"{_LONG}.{kind}"] for kind in ("weight", "bias")}
    return out, {"context": str(context)}


def configured(content: Mapping[str, Any], options: Mapping[str, str]) -> dict[str, Any]:
    """SigLIP 2's configuration of the position table in use."""
    return {**content, "text_config": {**content["text_config"], "max_position_embeddings": int(options["context"])}}


def image_options(image: Image.Image) -> dict[str, int]:
    """As many patches as an image has of 16 pixels, in the authors' five steps."""
    own, steps = (image.width // 16) * (image.height // 16), IMAGES["max_num_patches"]
    return {"max_num_patches": next((most for most in steps if own <= most), steps[-1])}
