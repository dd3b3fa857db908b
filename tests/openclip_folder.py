"""Small open_clip models with random weights, written as open_clip's own model folders, for tests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import open_clip
import torch
from PIL import Image
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
        if decoder is not None:  # open_clip leaves this one as the memory was
            module.text_decoder.text_projection.normal_(std=0.1)
    save_file(module.state_dict(), folder / "open_clip_model.safetensors")
    return module.eval()


def their_pixels(images: Sequence[Image.Image], side: int = 32) -> torch.Tensor:
    """[N, 3, side, side], by open_clip's own transform of such a folder."""
    transform = open_clip.image_transform(side, is_train=False, mean=[0.5] * 3, std=[0.5] * 3, resize_mode="squash")
    return torch.stack([transform(image) for image in images])


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


def write_hub_text(folder: Path, cache: Path, pooler: str, context: int = 24) -> open_clip.CustomTextCLIP:
    """A small open_clip model whose text tower is a RoBERTa of transformers, and the cache that its settings are in.

    Args:
        folder: where to.
        cache: a folder for ``huggingface_hub.constants.HF_HUB_CACHE``.
        pooler: open_clip's ``hf_pooler_type``.
        context: positions.
    """
    from hub_models import hub_tokenizer
    from open_clip.hf_model import HFTextEncoder
    from transformers import RobertaConfig

    tokenizer, vocabulary = hub_tokenizer("altclip")
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    settings = RobertaConfig(vocab_size=vocabulary, max_position_embeddings=context + 2, pad_token_id=1, **sizes)
    snapshot = cache / "models--a--b" / "snapshots" / "0"
    snapshot.mkdir(parents=True)
    (cache / "models--a--b" / "refs").mkdir()
    (cache / "models--a--b" / "refs" / "main").write_text("0")
    settings.save_pretrained(snapshot)
    module = write_folder(folder, context_length=context)
    module.text = HFTextEncoder("a/b", 32, config=settings, pooler_type=pooler, proj_type="mlp", pretrained=False)
    # As open_clip builds it from a name: only one pooler of the library's own is kept.
    if pooler != "cls_pooler":
        module.text.transformer.pooler = None
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"] = {
        "hf_model_name": "a/b", "hf_tokenizer_name": "a/b", "hf_pooler_type": pooler, "hf_proj_type": "mlp",
        "context_length": context,
    }  # fmt: skip
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    save_file(module.state_dict(), folder / "open_clip_model.safetensors")
    tokenizer.save_pretrained(folder)
    return module.eval()
