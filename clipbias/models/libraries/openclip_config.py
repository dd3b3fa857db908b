"""open_clip's ``open_clip_config.json``: every field that clipbias hands on, with its type and its bounds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from clipbias.errors import UserError
from clipbias.models.libraries.folder import Fields, checked, read_config

CONFIG = "open_clip_config.json"
_Layers = Annotated[int, Field(ge=1, le=256)]
_Width = Annotated[int, Field(ge=1, le=16_384)]
_Heads = Annotated[int, Field(ge=1, le=256)]
_Ratio = Annotated[float, Field(gt=0, le=64)]
_Side = Annotated[int, Field(ge=1, le=2048)]
_Context = Annotated[int, Field(ge=3, le=4096)]
_Vocabulary = Annotated[int, Field(ge=1, le=2_000_000)]
_Id = Annotated[int, Field(ge=0, le=2_000_000)]
_Share = Annotated[float, Field(ge=0, lt=1)]
_Colour = Annotated[tuple[float, float, float], Field()]
# A name of timm's own models; timm reads "hf-hub:" and "local-dir:" as places to take settings from.
_TimmName = Annotated[str, Field(pattern=r"^[a-z0-9_]+(\.[a-z0-9_]+)?$", max_length=80)]
_HubName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$", max_length=120)]


class Act(Fields):
    """Arguments of an activation."""

    approximate: Literal["none", "tanh"] = "none"


class Norm(Fields):
    """Arguments of a LayerNorm."""

    eps: Annotated[float, Field(gt=0, le=1e-2)] = 1e-5


class Blocks(Fields):
    """What both towers' blocks may have."""

    ls_init_value: float | None = None
    act_kwargs: Act | None = None
    norm_kwargs: Norm | None = None
    block_type: Literal["default", "custom"] | None = None
    qk_norm: bool = False
    scaled_cosine_attn: bool = False
    scale_heads: bool = False
    scale_attn_inner: bool = False
    scale_attn: bool = False
    scale_fc: bool = False
    output_tokens: bool = False


class Vision(Blocks):
    """``vision_cfg``."""

    layers: _Layers | Annotated[tuple[_Layers, _Layers, _Layers, _Layers], Field()] = 12
    width: _Width = 768
    head_width: _Width = 64
    mlp_ratio: _Ratio = 4.0
    patch_size: Annotated[int, Field(ge=1, le=256)] | None = 16
    image_size: _Side | tuple[_Side, _Side] = 224
    patch_dropout: _Share = 0.0
    attentional_pool: bool | Literal["parallel", "cascade"] = False
    attn_pooler_queries: Annotated[int, Field(ge=1, le=4096)] = 256
    attn_pooler_heads: _Heads = 8
    no_ln_pre: bool = False
    pos_embed_type: Literal["learnable", "sin_cos_2d"] = "learnable"
    final_ln_after_pool: bool = False
    pool_type: Literal["tok", "avg", "none"] = "tok"
    timm_model_name: _TimmName | None = None
    timm_model_pretrained: bool = False
    timm_pool: Literal["", "avg", "avgmax", "max", "token", "map", "abs_attn", "rot_attn"] = "avg"
    timm_proj: Literal["", "linear", "mlp", "none"] | None = "linear"
    timm_proj_bias: bool = False
    timm_drop: _Share = 0.0
    timm_drop_path: _Share | None = None


class TokenizerArguments(Fields):
    """``tokenizer_kwargs``: how a text is cleaned, and nothing that reaches transformers."""

    clean: Literal["lower", "whitespace", "canonicalize"] | None = None
    strip_sep_token: bool = False
    language: Annotated[str, Field(pattern=r"^[A-Za-z_]{2,16}$")] | None = None


class Text(Blocks):
    """``text_cfg``."""

    context_length: _Context = 77
    vocab_size: _Vocabulary = 49_408
    hf_tokenizer_name: _HubName | Literal[""] | None = None
    tokenizer_mode: Literal["", "clips"] | None = None
    tokenizer_kwargs: TokenizerArguments | None = None
    width: _Width = 512
    heads: _Heads = 8
    layers: _Layers = 12
    mlp_ratio: _Ratio = 4.0
    embed_cls: bool = False
    pad_id: _Id = 0
    eos_id: _Id = 2
    no_causal_mask: bool = False
    final_ln_after_pool: bool = False
    pool_type: Literal["first", "last", "argmax", "eos", "none"] = "argmax"
    proj_bias: bool = False
    proj_type: Literal["linear", "none"] | None = "linear"
    hf_model_name: _HubName | None = None
    hf_model_pretrained: bool = True
    hf_proj_type: Literal["linear", "mlp"] | None = "mlp"
    hf_pooler_type: Literal["mean_pooler", "max_pooler", "cls_pooler", "cls_last_hidden_state_pooler"] | None = (
        "mean_pooler"
    )


class Multimodal(Text):
    """``multimodal_cfg``: CoCa's decoder."""

    dim_head: _Width = 64
    n_queries: Annotated[int, Field(ge=1, le=4096)] = 256
    attn_pooler_heads: _Heads = 8
    cross_attn_ratio: Annotated[int, Field(ge=1, le=64)] = 1
    does_full_decoding: bool = False


class Model(Fields):
    """``model_cfg``."""

    embed_dim: _Width
    vision_cfg: Vision
    text_cfg: Text
    multimodal_cfg: Multimodal | None = None
    quick_gelu: bool = False
    custom_text: bool = False
    init_logit_scale: float | None = None
    init_logit_bias: float | None = None
    nonscalar_logit_scale: bool = False


class Preprocess(Fields):
    """``preprocess_cfg``, as open_clip's defaults fill it up."""

    size: _Side | tuple[_Side, _Side] | None = None
    mode: Literal["RGB"] = "RGB"
    mean: _Colour = (0.48145466, 0.4578275, 0.40821073)
    std: _Colour = (0.26862954, 0.26130258, 0.27577711)
    interpolation: Literal["bicubic", "bilinear", "random"] = "bicubic"
    resize_mode: Literal["shortest", "longest", "squash"] = "shortest"
    fill_color: Annotated[int, Field(ge=0, le=255)] = 0


class Folder(Fields):
    """The whole file."""

    model_cfg: Model
    preprocess_cfg: Preprocess = Preprocess()


def read_folder_config(folder: Path) -> Folder:
    """The configuration of an open_clip model folder.

    Raises:
        UserError: none there, or one that holds more than known fields of known types.
    """
    path = folder / CONFIG
    content = read_config(path)
    if "model_cfg" not in content:
        raise UserError(f"{path}: no model_cfg in it; is it an open_clip model folder?")
    # Files say null for what is left at its default.
    kept = {key: value for key, value in content.items() if key in ("model_cfg", "preprocess_cfg")}
    if isinstance(kept.get("preprocess_cfg"), dict):
        kept["preprocess_cfg"] = {k: v for k, v in kept["preprocess_cfg"].items() if v is not None}
    return checked(Folder, kept, path)


def arguments(fields: Fields) -> dict[str, Any]:
    """Declared fields that were given, as plain values for open_clip's constructors."""
    return fields.model_dump(exclude_unset=True, exclude={"custom_text"})
