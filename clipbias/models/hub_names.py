"""transformers' names of CLIP's tensors against open_clip's custom-text names, both ways.

The two differ in names, in transposed projections, and in queries, keys and values, which are one matrix in open_clip.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from clipbias.models.layouts import State

TABLE = "text_model.embeddings.position_embedding"
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
    f"{TABLE}.weight": "text.positional_embedding",
    "text_model.final_layer_norm": "text.ln_final",
    "text_model.head": "text.text_projection",  # SigLIP's, which has a bias
    "logit_scale": "logit_scale",
    "logit_bias": "logit_bias",
}
_PROJECTIONS = {"text_projection.weight": "text.text_projection", "visual_projection.weight": "visual.proj"}
_QKV = ("q_proj", "k_proj", "v_proj")


def from_hub(state: Mapping[str, Tensor]) -> State:
    """open_clip's names of transformers' tensors; those that CLIP does not have are left out.

    Raises:
        KeyError: a query without its key or value.
    """
    out: State = {ours: state[theirs].T for theirs, ours in _PROJECTIONS.items() if theirs in state}
    for key, value in state.items():
        base, _, kind = key.rpartition(".")
        if key in _OTHERS:
            out[_OTHERS[key]] = value
        elif base in _OTHERS:
            out[f"{_OTHERS[base]}.{kind}"] = value
        elif ".encoder.layers." in key:
            out |= _layer(state, key)
    return out


def _layer(state: Mapping[str, Tensor], key: str) -> State:
    """open_clip's tensor for one of a layer."""
    tower, _, rest = key.partition("_model.encoder.layers.")
    number, _, name = rest.partition(".")
    base, _, kind = name.rpartition(".")
    place = f"{'visual' if tower == 'vision' else 'text'}.transformer.resblocks.{number}"
    if base in _BLOCK:
        return {f"{place}.{_BLOCK[base]}.{kind}": state[key]}
    if base == "self_attn.q_proj":
        return {f"{place}.attn.in_proj_{kind}": torch.cat([state[key.replace("q_proj", part)] for part in _QKV])}
    return {}


def to_hub(state: Mapping[str, Tensor]) -> State:
    """The reverse of `from_hub`, of a state that holds CLIP's tensors alone."""
    blocks, others = ({v: k for k, v in names.items()} for names in (_BLOCK, _OTHERS))
    projections = {ours: theirs for theirs, ours in _PROJECTIONS.items()}
    out: State = {}
    for key, value in state.items():
        base, _, kind = key.rpartition(".")
        tower, _, rest = key.partition(".transformer.resblocks.")
        if key in projections:
            out[projections[key]] = value.T
        elif key in others:
            out[others[key]] = value
        elif base in others:
            out[f"{others[base]}.{kind}"] = value
        elif rest:
            number, _, name = rest.partition(".")
            place = f"{'vision' if tower == 'visual' else 'text'}_model.encoder.layers.{number}"
            base, _, kind = name.rpartition(".")
            if base in blocks:
                out[f"{place}.{blocks[base]}.{kind}"] = value
            else:
                kind = name.removeprefix("attn.in_proj_")
                parts = zip(_QKV, value.chunk(3), strict=True)
                out |= {f"{place}.self_attn.{part}.{kind}": one for part, one in parts}
    return {key: value.detach().cpu().clone().contiguous() for key, value in out.items()}
