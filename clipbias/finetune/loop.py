"""The training step and its loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from clipbias.finetune.batches import Batch, BatchMaker, batch_indices
from clipbias.finetune.losses import info_nce, pca_reconstruct
from clipbias.finetune.model import TrainModel
from clipbias.finetune.recipe import Recipe


def step_losses(model: TrainModel, batch: Batch, recipe: Recipe) -> dict[str, Tensor]:
    """The losses of one batch; "loss" is what is minimised (paper equation for L).

    "clip": InfoNCE on the short captions. "long-short": ``weight_long * L_long + weight_short *
    L_short``, the short captions against the images' principal components.
    """
    images = model.encode_image(batch.pixels)
    scale = model.clip.logit_scale.exp()
    if recipe.objective == "clip":
        loss = info_nce(images, model.encode_text(batch.short_ids), scale, recipe.label_smoothing)
        return {"loss": loss}
    assert batch.long_ids is not None
    long = info_nce(images, model.encode_text(batch.long_ids), scale, recipe.label_smoothing)
    components = pca_reconstruct(images, recipe.pca_dim)
    short = info_nce(components, model.encode_text(batch.short_ids, batch.n_pre), scale, recipe.label_smoothing)
    return {"loss": recipe.weight_long * long + recipe.weight_short * short, "long": long, "short": short}


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """Linear warm-up over ``recipe.warmup`` steps, then a cosine to zero."""
    if step < recipe.warmup:
        return recipe.lr * (step + 1) / recipe.warmup
    done = (step - recipe.warmup) / max(1, steps - recipe.warmup)
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * done))


def total_steps(recipe: Recipe, count: int) -> int:
    """Optimiser steps of the whole training on ``count`` samples."""
    return recipe.steps or int(recipe.epochs * (count // recipe.batch_size))
