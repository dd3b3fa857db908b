"""FG-CLIP (v1): Hugging Face's CLIP names, a short mode at 77 tokens and a long one at 248."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from clipbias.errors import UserError
from clipbias.models.entry import ModelEntry

if TYPE_CHECKING:
    from torch import Tensor

    from clipbias.models.layouts import State
    from clipbias.models.tokenizer import Cleaning

SQUARE = True
CLEANING: Cleaning = "huggingface"
_FILE = "model.safetensors"
MODELS = {
    "fgclip-b16": ModelEntry(
        "fgclip", "ViT-B/16", 248, 512, "hub:qihoo360/fg-clip-base", _FILE,
        revision="454d76372c2cf5eb48fa0d871fd0534481484d97",
    ),
    "fgclip-l14": ModelEntry("fgclip", "ViT-L/14, 336 px", 248, 768, "hub:qihoo360/fg-clip-large", _FILE),
}  # fmt: skip
_BLOCK = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
_OTHERS = {
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.pre_layrnorm": "visual.ln_pre",
    "vision_model.post_layernorm": "visual.ln_post",
    "text_model.embeddings.token_embedding.weight": "text.token_embedding.weight",
    "text_model.final_layer_norm": "text.ln_final",
    "logit_scale": "logit_scale",
}


def recognise(state: Mapping[str, Tensor]) -> str | None:
    """FG-CLIP's files have a ``text_filip_projection``."""
    return "it has text_filip_projection.weight" if "text_filip_projection.weight" in state else None


def read(state: Mapping[str, Tensor], context: str | int = 248) -> tuple[State, dict[str, str]]:
    """``context=248``: both long position tables and ``text_filip_projection``; ``77``: the authors' short mode.

    Raises:
        UserError: another context.
    """
    from clipbias.models.layouts import join_positions

    if str(context) not in ("77", "248"):
        raise UserError(f"fgclip option context={context!r}: choose 248 or 77")
    table = "text_model.embeddings.position_embedding"
    long = str(context) == "248"
    out: State = {
        "text.positional_embedding": join_positions(state[f"{table}_ori.weight"], state[f"{table}_res.weight"])
        if long
        else state[f"{table}.weight"],
        "text.text_projection": state[f"text_{'filip_' if long else ''}projection.weight"].T,
        "visual.proj": state["visual_projection.weight"].T,
    }
    for key, value in state.items():
        base, _, kind = key.rpartition(".")
        if key in _OTHERS:
            out[_OTHERS[key]] = value
        elif base in _OTHERS:
            out[f"{_OTHERS[base]}.{kind}"] = value
        elif ".encoder.layers." in key:
            out |= _layer(state, key)
    return out, {"context": str(context)}


def _layer(state: Mapping[str, Tensor], key: str) -> State:
    """open_clip's tensor for one of a layer; queries, keys and values are one matrix there."""
    import torch

    tower, _, rest = key.partition("_model.encoder.layers.")
    number, _, name = rest.partition(".")
    base, _, kind = name.rpartition(".")
    place = f"{'visual' if tower == 'vision' else 'text'}.transformer.resblocks.{number}"
    if base in _BLOCK:
        return {f"{place}.{_BLOCK[base]}.{kind}": state[key]}
    if base == "self_attn.q_proj":
        parts = [state[key.replace("q_proj", part)] for part in ("q_proj", "k_proj", "v_proj")]
        return {f"{place}.attn.in_proj_{kind}": torch.cat(parts)}
    return {}
