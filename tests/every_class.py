"""A small random model of every class that is read, each in the layout of its authors' files, for tests."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np
import plain_clip as plain
import torch
from hub_models import KINDS, WORDS, write_fgclip2, write_hub_folder, write_sentence_folder, write_vl_embedder
from openclip_folder import write_folder, write_hub_text, write_siglip
from PIL import Image
from safetensors.torch import save_file


@cache
def one_table(context: int = 77) -> plain.State:
    """A state in OpenAI's layout."""
    return plain.random_state(width=64, context=context)


@cache
def two_tables() -> plain.State:
    """A state in Long-CLIP's layout."""
    draw = torch.Generator().manual_seed(1)
    return one_table(248) | {"positional_embedding_res": torch.randn(248, 64, generator=draw) * 0.5}


def debias_names(state: plain.State) -> plain.State:
    """A state of OpenAI's or Long-CLIP's layout in DeBias-CLIP's names."""
    visual = ("visual.", "logit_scale")
    return {key if key.startswith(visual) else f"text.{key}": value for key, value in state.items()}


def fgclip_state(state: plain.State) -> tuple[plain.State, dict[str, torch.Tensor]]:
    """The state in FG-CLIP's Hugging Face names, and its further tables."""
    width = state["positional_embedding"].shape[1]
    more = {
        name: plain.random_state(width=width, context=248, seed=seed, vocabulary=1)["positional_embedding"]
        for name, seed in (("ori", 5), ("res", 6))
    }
    filip = plain.random_state(width=width, seed=7, vocabulary=1)["text_projection"]
    names = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}
    out = {
        "vision_model.embeddings.class_embedding": state["visual.class_embedding"],
        "vision_model.embeddings.patch_embedding.weight": state["visual.conv1.weight"],
        "vision_model.embeddings.position_embedding.weight": state["visual.positional_embedding"],
        "vision_model.embeddings.position_ids": torch.arange(5)[None],
        "visual_projection.weight": state["visual.proj"].T.contiguous(),
        "text_model.embeddings.token_embedding.weight": state["token_embedding.weight"],
        "text_model.embeddings.position_embedding.weight": state["positional_embedding"],
        "text_model.embeddings.position_embedding_ori.weight": more["ori"],
        "text_model.embeddings.position_embedding_res.weight": more["res"],
        "text_projection.weight": state["text_projection"].T.contiguous(),
        "text_filip_projection.weight": filip.T.contiguous(),
        "logit_scale": state["logit_scale"],
        "logit_scale_finegraind": torch.tensor(1.0),
        "logit_scale_hardneg": torch.tensor(1.0),
    }
    for kind in ("weight", "bias"):
        out[f"vision_model.pre_layrnorm.{kind}"] = state[f"visual.ln_pre.{kind}"]
        out[f"vision_model.post_layernorm.{kind}"] = state[f"visual.ln_post.{kind}"]
        out[f"text_model.final_layer_norm.{kind}"] = state[f"ln_final.{kind}"]
    for ours, theirs in (("visual.transformer", "vision_model"), ("transformer", "text_model")):
        for i in range(2):
            block, layer = f"{ours}.resblocks.{i}", f"{theirs}.encoder.layers.{i}"
            for kind in ("weight", "bias"):
                for a, b in names.items():
                    out[f"{layer}.{b}.{kind}"] = state[f"{block}.{a}.{kind}"]
                out[f"{layer}.self_attn.out_proj.{kind}"] = state[f"{block}.attn.out_proj.{kind}"]
                for part, value in zip("qkv", state[f"{block}.attn.in_proj_{kind}"].chunk(3), strict=True):
                    out[f"{layer}.self_attn.{part}_proj.{kind}"] = value.contiguous()
    return out, {**more, "filip": filip}


def _saved(state: plain.State, folder: Path) -> str:
    torch.save(state, folder / "model.pt")
    return str(folder / "model.pt")


def _fgclip(folder: Path) -> str:
    save_file(fgclip_state(one_table())[0], folder / "model.safetensors")
    return str(folder)


def _coca(folder: Path) -> str:
    text = {"embed_cls": True, "output_tokens": True, "context_length": 40}
    decoder = {"context_length": 40, "vocab_size": 49_408, "width": 64, "heads": 1, "layers": 1}
    vision = {"attentional_pool": True, "attn_pooler_heads": 1, "output_tokens": True}
    write_folder(folder, decoder=decoder, vision=vision, **text)
    return str(folder)


def _written(write: Callable[[Path], object], folder: Path) -> str:
    write(folder)
    return str(folder)


class Mine:
    """A user's own object: a text is the counts of its letters, an image its mean colours."""

    def encode_texts(self, texts: list[str]) -> np.ndarray:
        return np.array([[text.count(c) + 0.1 for c in "aeiourstbgyl"] for text in texts])

    def encode_images(self, images: list[Image.Image]) -> np.ndarray:
        return np.stack([np.asarray(image.resize((2, 2))).reshape(-1) + 1.0 for image in images])


CLASSES: dict[str, Callable[[Path], str]] = {
    "ours": lambda folder: "nano-debias",
    "openai": lambda folder: _saved(one_table(), folder),
    "longclip": lambda folder: _saved(two_tables(), folder),
    "debias": lambda folder: _saved({"state_dict": debias_names(two_tables()), "epoch": 3}, folder),
    "fgclip": _fgclip,
    "fgclip2": partial(_written, write_fgclip2),
    "smartclip": lambda folder: _saved(two_tables() | {"mask_net.resblocks.0.ln_1.bias": torch.ones(4)}, folder),
    "himoclip": lambda folder: _saved({key: value.half() for key, value in two_tables().items()}, folder),
    "open_clip": partial(_written, write_folder),
    "open_clip CoCa": _coca,
    "open_clip SigLIP": partial(_written, partial(write_siglip, texts=WORDS, pad="</s>")),
    "open_clip, transformers' text": lambda folder: _written(
        partial(write_hub_text, cache=folder / "cache", pooler="cls_pooler"), folder
    ),
    **{f"transformers {kind}": partial(_written, partial(write_hub_folder, kind)) for kind in KINDS},
    "sentence-transformers": lambda folder: f"st:{_written(partial(write_sentence_folder, 'clip'), folder)}",
    "language model that sees": lambda folder: f"st:{_written(write_vl_embedder, folder)}",
    "user": lambda folder: "every_class:Mine",
}
"""Class of models -> writes one into a folder, and returns what ``load_model`` takes."""
