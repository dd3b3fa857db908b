"""Retrieval on held-out samples while a model is trained."""

from __future__ import annotations

import torch

from clipbias.data.build import without_images
from clipbias.data.dataset import RetrievalDataset
from clipbias.finetune.batches import BatchMaker
from clipbias.finetune.loop import autocast
from clipbias.finetune.model import TrainModel
from clipbias.finetune.recipe import Recipe
from clipbias.probe.ranking import rank_both
from clipbias.stats.ties import credit

_BATCH = 64


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


def validation_recall(model: TrainModel, maker: BatchMaker, recipe: Recipe) -> dict[str, float]:
    """R@1 in both directions on whole captions of the maker's data set, as fractions."""
    dataset = maker.dataset
    device = next(model.parameters()).device
    images, texts = [], []
    model.eval()
    try:
        with torch.inference_mode(), autocast(device, recipe.precision):
            for start in range(0, len(dataset.image_names), _BATCH):
                part = range(start, min(start + _BATCH, len(dataset.image_names)))
                pixels = torch.stack([maker.transform(dataset.load_image(i)) for i in part])
                images.append(model.encode_image(pixels.to(device)).float().cpu())
            for start in range(0, len(dataset.captions), _BATCH):
                captions = [text.replace("\n", " ") for text in dataset.captions[start : start + _BATCH]]
                texts.append(model.encode_text(maker.tokenize(captions).to(device)).float().cpu())
    finally:
        model.train()
    found = rank_both(torch.cat(texts), torch.cat(images), dataset.caption_image)
    return {f"validation_{way}_recall@1": float(credit(*found[way].counts, 1).mean()) for way in ("t2i", "i2t")}
