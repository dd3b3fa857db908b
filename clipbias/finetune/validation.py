"""Retrieval on held-out samples while a model is trained: where and when a bias arises."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from clipbias.data.build import without_images
from clipbias.data.dataset import RetrievalDataset
from clipbias.finetune.batches import BatchMaker
from clipbias.finetune.captions import one_line
from clipbias.finetune.loop import autocast
from clipbias.finetune.model import TrainModel
from clipbias.finetune.recipe import Recipe
from clipbias.probe.ranking import rank_both
from clipbias.stats.ties import credit

_BATCH = 64
PADDING = "This is a photo."
"""The paper's padding sentence."""


def hold_out(dataset: RetrievalDataset, count: int) -> tuple[RetrievalDataset, RetrievalDataset | None]:
    """The data set without its last ``count`` images, and those; at most a tenth is held out."""
    images = len(dataset.image_names)
    count = min(count, images // 10)
    if not count:
        return dataset, None
    first = images - count
    return (
        without_images(dataset, range(first, images), "held-out"),
        without_images(dataset, range(first), "training"),
    )


def perturbed(sentences: Sequence[str], caption: str) -> dict[str, str]:
    """A caption and what the paper does to it, by name.

    ``full``; ``drop-first``: without its first sentence, where another is left; ``pad-0``: its first two sentences;
    ``pad-1`` and ``pad-5``: these behind one and five padding sentences.
    """
    two = " ".join(sentences[:2])
    out = {"full": caption, "drop-first": " ".join(sentences[1:] or sentences)}
    return out | {f"pad-{n}": " ".join([PADDING] * n + [two]) for n in (0, 1, 5)}


def validation_recall(model: TrainModel, maker: BatchMaker, recipe: Recipe) -> dict[str, float]:
    """R@1 on the maker's data set, as fractions: both directions on whole captions, T2I on `perturbed` ones."""
    dataset = maker.dataset
    variants = [perturbed(maker.sentences(index), one_line(caption)) for index, caption in enumerate(dataset.captions)]
    model.eval()
    try:
        with torch.inference_mode(), autocast(model.device, recipe.precision):
            images = []
            for start in range(0, len(dataset.image_names), _BATCH):
                part = range(start, min(start + _BATCH, len(dataset.image_names)))
                pixels = torch.stack([maker.transform(dataset.load_image(i)) for i in part])
                images.append(model.encode_image(pixels.to(model.device)).float().cpu())
            texts = {name: _encoded(model, maker, [v[name] for v in variants]) for name in variants[0]}
    finally:
        model.train()
    out = {}
    for name, features in texts.items():
        found = rank_both(features, torch.cat(images), dataset.caption_image)
        for way in ("t2i", "i2t") if name == "full" else ("t2i",):
            condition = "" if name == "full" else f"{name}_"
            out[f"validation_{condition}{way}_recall@1"] = float(credit(*found[way].counts, 1).mean())
    return out


def _encoded(model: TrainModel, maker: BatchMaker, captions: Sequence[str]) -> Tensor:
    """Features [N, D] of captions on the CPU."""
    parts = [maker.tokenize(captions[start : start + _BATCH]) for start in range(0, len(captions), _BATCH)]
    return torch.cat([model.encode_text(ids).float().cpu() for ids in parts])
