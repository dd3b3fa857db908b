"""What a transformers folder has beside the weights, for a CLIP that did not come from one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clipbias.errors import UserError
from clipbias.models.build import HEAD_WIDTH
from clipbias.models.clip_encoder import ClipEncoder, reads_clip_tokens
from clipbias.models.ids import EOT, SOT
from clipbias.models.layouts import shape_of
from clipbias.models.tokenizer import clip_vocabulary
from clipbias.models.towers import has_quick_gelu

if TYPE_CHECKING:
    from open_clip.model import CustomTextCLIP


def clip_parts(module: CustomTextCLIP, source: ClipEncoder) -> tuple[dict[str, Any], Any, Any]:
    """config.json, tokenizer and image processor of an OpenAI-style ViT CLIP.

    Raises:
        UserError: it is none.
    """
    import transformers

    library: Any = transformers
    if not reads_clip_tokens(source):
        raise UserError(f"{source.name} has no CLIP tokenizer, as transformers' CLIPModel has; export it as openclip")
    shape, blocks = shape_of(module.state_dict()), module.text.transformer.resblocks
    act = {"hidden_act": "quick_gelu" if has_quick_gelu(module.text) else "gelu"}
    text = {
        "hidden_size": shape.text_width, "intermediate_size": blocks[0].mlp.c_fc.out_features,
        "num_hidden_layers": shape.text_layers, "num_attention_heads": blocks[0].attn.num_heads,
        "vocab_size": module.text.token_embedding.num_embeddings, "max_position_embeddings": shape.context_length,
        "bos_token_id": SOT, "eos_token_id": EOT, "pad_token_id": EOT,
    }  # fmt: skip
    vision = {
        "hidden_size": shape.vision_width, "intermediate_size": 4 * shape.vision_width,
        "num_hidden_layers": shape.vision_layers, "num_attention_heads": shape.vision_width // HEAD_WIDTH,
        "image_size": shape.image_size, "patch_size": shape.patch_size,
    }  # fmt: skip
    config = library.CLIPConfig(
        text_config=text | act, vision_config=vision | act, projection_dim=shape.embed_dim
    ).to_dict()
    vocabulary, merges = clip_vocabulary()
    tokenizer: Any = transformers.CLIPTokenizer
    rule, side = source.transform, {"height": shape.image_size, "width": shape.image_size}
    square = rule.resize == "squash"
    processor = library.CLIPImageProcessor(
        size=side if square else {"shortest_edge": shape.image_size}, crop_size=side, do_center_crop=not square,
        image_mean=list(rule.mean), image_std=list(rule.std),
    )  # fmt: skip
    return config | {"architectures": ["CLIPModel"]}, tokenizer(vocabulary, merges), processor
