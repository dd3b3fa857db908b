"""Small open_clip models with random weights, written as open_clip's own model folders, for tests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file

SIGLIP = {"no_causal_mask": True, "proj_bias": True, "pool_type": "last"}
"""What SigLIP's text towers have beside CLIP's: no mask, the last position pooled, a bias in the projection."""


def write_folder(
    folder: Path,
    side: int = 32,
    bias: float | None = None,
    embed_dim: int = 32,
    vision: dict[str, object] | None = None,
    decoder: dict[str, object] | None = None,
    **text: object,
) -> Any:
    """Write a model folder and return the model that is in it.

    Args:
        folder: where to.
        side: of the image in pixels.
        bias: of the logits at the start; None for a model without one.
        embed_dim: of the features.
        vision: settings of the image tower.
        decoder: CoCa's; with it the model is one.
        text: settings of the text tower.
    """
    text = {"context_length": 40, "vocab_size": 49_408, "width": 64, "heads": 1, "layers": 2} | text
    vision = {"image_size": side, "layers": 2, "width": 64, "patch_size": 8} | (vision or {})
    model = {
        "embed_dim": embed_dim,
        "vision_cfg": vision,
        "text_cfg": text,
        "custom_text": True,
        "init_logit_bias": bias,
    }
    preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "squash"}
    folder.mkdir(exist_ok=True)
    torch.manual_seed(0)
    if decoder is None:
        module = open_clip.CustomTextCLIP(embed_dim, dict(vision), dict(text), init_logit_bias=bias)
    else:
        model["multimodal_cfg"] = decoder
        module = open_clip.CoCa(embed_dim, dict(decoder), dict(text), dict(vision))
    config = {"model_cfg": model, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with torch.no_grad():
        module.text.positional_embedding.normal_()
    save_file(module.state_dict(), folder / "open_clip_model.safetensors")
    return module.eval()


def write_siglip(folder: Path, texts: Sequence[str], pad: str, context: int = 64) -> open_clip.CustomTextCLIP:
    """A small SigLIP with a tokenizer of its own, made from ``texts``, that ends a text with ``</s>``.

    Args:
        folder: where to.
        texts: for the vocabulary.
        pad: what it pads with: "</s>" as SigLIP's tokenizer, "<pad>" as SigLIP2's.
        context: positions.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.Unigram())
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=300, special_tokens=special, unk_token="<unk>", show_progress=False)
    inner.train_from_iterator(texts, trainer)
    inner.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token=pad, eos_token="</s>", unk_token="<unk>")
    module = write_folder(
        folder, 48, bias=-10.0, context_length=context, vocab_size=300, hf_tokenizer_name="a/b",
        tokenizer_kwargs={"clean": "canonicalize"}, **SIGLIP,
    )  # fmt: skip
    tokenizer.save_pretrained(folder)
    return module
