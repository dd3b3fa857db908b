"""transformers' CLIP and SigLIP as open_clip's modules, which a recipe trains, and trained modules as its folders.

The text tower becomes open_clip's, and CLIP's image tower too; SigLIP's stays the library's own behind open_clip's
interface. Pixels are made by the library's image processor. That features stay the same is tried at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from clipbias.data.pack import RULE
from clipbias.errors import UserError
from clipbias.files import write_text
from clipbias.models.checkpoint import write_tensors
from clipbias.models.clip_encoder import ClipEncoder
from clipbias.models.hub_names import from_hub, to_hub
from clipbias.models.preprocessing import Preprocessing
from clipbias.models.tokenizer import ClipTokens, Tokens

if TYPE_CHECKING:
    from open_clip.model import CustomTextCLIP
    from PIL import Image

    from clipbias.models.libraries.transformers import TransformersEncoder

KINDS = ("clip", "siglip")
_SAMPLES = ("", "a photo", "Two dogs sit on a bench beside a tree; behind them stands an old car.")
_CLOSE = 1e-4


@dataclass(frozen=True)
class HubPixels(Preprocessing):
    """The library's own image processor: PIL image -> pixels [3, H, W]."""

    made: Callable[[Image.Image], Tensor] = lambda image: torch.empty(0)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, image: Image.Image) -> Tensor:
        """See `Preprocessing`.

        Raises:
            UserError: an image from a pack, which has been resized already.
        """
        if image.info.get(RULE) is not None:
            raise UserError("a pack holds resized images, and this model's own processor resizes them; use the images")
        return self.made(image)

    def record(self) -> dict[str, Any]:
        """See `Preprocessing.record`."""
        return dict(self.facts)


class HubVisual(nn.Module):
    """An image tower of transformers as open_clip calls its own."""

    def __init__(self, model: nn.Module, side: int) -> None:
        super().__init__()
        self.model, self.image_size = model, (side, side)

    def forward(self, pixels: Tensor) -> Tensor:
        """Features [B, D] of pixels [B, 3, H, W]."""
        return self.model(pixel_values=pixels).pooler_output

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """As open_clip's towers."""
        model: Any = self.model
        model.gradient_checkpointing_enable() if enable else model.gradient_checkpointing_disable()


class HubClip(ClipEncoder):
    """A model of transformers in open_clip's modules.

    Attributes:
        hub: the encoder that it was made from.
    """

    hub: TransformersEncoder


def as_clip(encoder: TransformersEncoder) -> HubClip:
    """The model with its text tower, and CLIP's image tower, as open_clip's modules.

    Raises:
        UserError: another kind of model, or one whose features would not stay the same.
    """
    if encoder.family not in KINDS:
        raise UserError(f"{encoder.name}: a {encoder.family} model cannot be fine-tuned; of transformers' models "
                        f"{' and '.join(KINDS)} can")  # fmt: skip
    config, clip = encoder.module.config, encoder.family == "clip"
    activation = config.text_config.hidden_act
    module = _build(config, clip)
    state = from_hub(encoder.module.state_dict())
    if not clip:
        state = {k: v for k, v in state.items() if not k.startswith("visual.")}
        module.visual = HubVisual(encoder.module.vision_model, config.vision_config.image_size)
    for scale in ("logit_scale", "logit_bias"):
        if scale in state:
            state[scale] = state[scale].reshape(())
    try:
        found = module.load_state_dict({k: v.clone() for k, v in state.items()}, strict=clip)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{encoder.name}: its modules are not those of CLIP ({reason})") from error
    if [key for key in found.missing_keys if not key.startswith("visual.")] or found.unexpected_keys:
        raise UserError(f"{encoder.name}: its modules are not those of SigLIP ({str(found)[:200]})")
    side = config.vision_config.image_size
    pixels = HubPixels((side, side), made=lambda image: encoder.pixels(image)["pixel_values"],
                       facts=encoder.identity()["images"])  # fmt: skip
    made = HubClip(
        encoder.name, encoder.family, module.to(encoder.device), pixels, _tokens(encoder, clip), encoder.fingerprint,
        {**encoder.options, "activation": activation}, encoder.device, encoder.precision,
    )  # fmt: skip
    made.hub = encoder
    far = float((made.encode_texts(_SAMPLES) - encoder.encode_texts(_SAMPLES)).abs().max())
    picture = [_picture(side)]
    far = max(far, float((made.encode_images(picture) - encoder.encode_images(picture)).abs().max()))
    if far > _CLOSE:
        raise UserError(
            f"{encoder.name}: cannot be fine-tuned: in open_clip's modules its features change by {far:.1e}"
        )
    return made


def _picture(side: int) -> Image.Image:
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (side + 7, side + 31, 3), dtype=np.uint8)
    return Image.fromarray(noise)


def _build(config: Any, clip: bool) -> CustomTextCLIP:
    """open_clip's modules of this shape; SigLIP's image tower is put in later."""
    from open_clip.model import CustomTextCLIP

    text, vision = config.text_config, config.vision_config
    quick = text.hidden_act == "quick_gelu"
    tanh = {"approximate": "tanh"} if text.hidden_act == "gelu_pytorch_tanh" else None
    words = {
        "context_length": text.max_position_embeddings, "vocab_size": text.vocab_size, "width": text.hidden_size,
        "heads": text.num_attention_heads, "layers": text.num_hidden_layers, "act_kwargs": tanh,
        "mlp_ratio": text.intermediate_size / text.hidden_size, "norm_kwargs": {"eps": text.layer_norm_eps},
    }  # fmt: skip
    if not clip:
        words |= {"no_causal_mask": True, "proj_bias": True, "pool_type": "last"}
        small = {"image_size": 8, "patch_size": 8, "width": 64, "layers": 1}
        return CustomTextCLIP(text.projection_size, small, words, quick_gelu=quick, init_logit_bias=-10.0)
    pixels = {
        "image_size": vision.image_size, "patch_size": vision.patch_size, "width": vision.hidden_size,
        "head_width": vision.hidden_size // vision.num_attention_heads, "layers": vision.num_hidden_layers,
        "mlp_ratio": vision.intermediate_size / vision.hidden_size, "norm_kwargs": {"eps": vision.layer_norm_eps},
    }  # fmt: skip
    return CustomTextCLIP(config.projection_dim, pixels, words, quick_gelu=quick)


def _tokens(encoder: TransformersEncoder, clip: bool) -> Tokens:
    """CLIP's own tokenizer, of which the forward passes know the end token; SigLIP's as it is.

    Raises:
        UserError: a CLIP with another tokenizer.
    """
    if not clip:
        return encoder.tokens
    tokens = ClipTokens(encoder.context_length, "huggingface")
    if not torch.equal(tokens(_SAMPLES), encoder.tokens(_SAMPLES)):
        raise UserError(f"{encoder.name}: its tokenizer is not CLIP's; it cannot be fine-tuned")
    return tokens


def write_hub_folder(module: CustomTextCLIP, folder: Path, source: ClipEncoder) -> Path:
    """Write a model as a transformers folder, which ``CLIPModel`` or ``SiglipModel.from_pretrained`` loads.

    Args:
        module: the model; its position table may be longer than the source's.
        folder: where to.
        source: the encoder it is or was made from; its tokenizer and image processor go with it.

    Returns:
        The folder.

    Raises:
        UserError: a model that is no OpenAI-style ViT CLIP and did not come from transformers.
    """
    from clipbias.models.libraries.transformers_new import clip_parts

    state = {key: value for key, value in module.state_dict().items() if not key.startswith("visual.model.")}
    context = len(module.text.positional_embedding)
    if isinstance(source, HubClip):
        config, tokenizer = source.hub.module.config.to_dict(), source.hub.tokens.tokenizer
        processor = source.hub.image_processor
    else:
        config, tokenizer, processor = clip_parts(module, source)
    names = to_hub(state)
    if isinstance(module.visual, HubVisual):
        kept = module.visual.model.state_dict()
        names |= {f"vision_model.{key}": value.detach().cpu().clone().contiguous() for key, value in kept.items()}
        # SigLIP's file has them as rows of one.
        names |= {key: names[key].reshape(1) for key in ("logit_scale", "logit_bias") if key in names}
    config["text_config"] = {**config["text_config"], "max_position_embeddings": context}
    before = tokenizer.model_max_length
    tokenizer.model_max_length = context
    tokenizer.save_pretrained(str(folder))
    tokenizer.model_max_length = before
    processor.save_pretrained(str(folder))
    write_tensors(folder / "model.safetensors", names, {"format": "pt"})
    # Last, because a folder with it counts as a model.
    write_text(folder / "config.json", json.dumps(config, indent=1, default=str) + "\n")
    return folder
