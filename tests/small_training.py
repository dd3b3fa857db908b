"""A model and data small enough to train in a test."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from clipbias.data.build import without_images
from clipbias.data.loading import load_dataset
from clipbias.finetune.batches import Batch, BatchMaker
from clipbias.finetune.loop import backward, start_state
from clipbias.finetune.model import TrainModel
from clipbias.finetune.recipe import Recipe
from clipbias.finetune.runs import stretched_model
from clipbias.finetune.train import train
from clipbias.models.build import ClipShape, build_clip
from clipbias.models.preprocessing import clip_preprocessing

SMALL = ClipShape(32, 48, 16, 64, 2, 64, 2, 77)


def start(recipe: Recipe) -> tuple[TrainModel, BatchMaker]:
    """A model from fixed random weights, and batches of 40 scenes."""
    dataset = without_images(load_dataset("scenes", split="validation"), range(40, 1000))
    torch.manual_seed(0)
    model = stretched_model(build_clip(SMALL), recipe)
    return model, BatchMaker(dataset, recipe, clip_preprocessing(48), lambda caption: [caption])


def train_on(folder: Path, recipe: Recipe, threads: int, pause: float = 0.0) -> None:
    """Train in a folder, or go on there: a state a step, the step's number printed, then a pause in seconds."""

    def told(step: int, steps: int, values: dict[str, float]) -> None:
        print(step, flush=True)
        time.sleep(pause)

    torch.set_num_threads(threads)  # sums over other numbers of them round in other ways
    model, maker = start(recipe)
    print("ready", flush=True)
    train(model, maker, recipe, folder, resume=True, save_every=0.0, progress=told)


def gradients(model: TrainModel, batch: Batch, recipe: Recipe) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    """Losses of a batch, and every parameter's gradient, as a training step finds them."""
    state = start_state(model, recipe)
    model.zero_grad()
    losses = backward(state.net, batch, recipe, state.scaler)
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return losses, found


def close(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    """Assert that two sets of gradients are of the same parameters and equal."""
    assert found.keys() == wanted.keys()
    for name, grad in wanted.items():
        torch.testing.assert_close(found[name], grad, atol=1e-5, rtol=1e-3, msg=lambda m, n=name: f"{n}: {m}")
