"""The training step: losses, optimiser, schedule, and the state that is saved and resumed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from clipbias.errors import UserError
from clipbias.files import atomic_path
from clipbias.finetune.batches import Batch
from clipbias.finetune.losses import info_nce, pca_reconstruct
from clipbias.finetune.model import TrainModel
from clipbias.finetune.recipe import Recipe

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The autocast block of a precision; fp32 switches it off."""
    return torch.autocast(device.type, _DTYPES[precision], enabled=precision != "fp32")


def step_losses(model: TrainModel, batch: Batch, recipe: Recipe) -> dict[str, Tensor]:
    """The losses of one batch; "loss" is what is minimised (paper equation for L).

    "clip": InfoNCE on the short captions. "long-short": ``weight_long * L_long + weight_short *
    L_short``, the short captions against the images' principal components. The towers run in the
    recipe's precision, the losses in fp32.
    """
    with autocast(batch.pixels.device, recipe.precision):
        images = model.encode_image(batch.pixels)
        short_texts = model.encode_text(batch.short_ids, batch.n_pre)
        long_texts = model.encode_text(batch.long_ids) if batch.long_ids is not None else None
    scale = model.clip.logit_scale.exp()
    if long_texts is None:
        return {"loss": info_nce(images, short_texts, scale, recipe.label_smoothing)}
    long = info_nce(images, long_texts, scale, recipe.label_smoothing)
    components = pca_reconstruct(images, recipe.pca_dim)
    short = info_nce(components, short_texts, scale, recipe.label_smoothing)
    return {"loss": recipe.weight_long * long + recipe.weight_short * short, "long": long, "short": short}


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """Linear warm-up over ``recipe.warmup`` steps, then a cosine to zero."""
    if step < recipe.warmup:
        return recipe.lr * (step + 1) / recipe.warmup
    done = (step - recipe.warmup) / max(1, steps - recipe.warmup)
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * done))


def make_optimizer(model: TrainModel, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW; weight decay on matrices only, as open_clip does (biases and norms are left alone)."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return torch.optim.AdamW(
        [
            {"params": [p for p in trained if p.ndim >= 2], "weight_decay": recipe.weight_decay},
            {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
        ],
        lr=recipe.lr,
        betas=(0.9, 0.98),
        eps=1e-6,
        fused=True,
    )


@dataclass
class TrainingState:
    """What a run carries from step to step; everything else follows from the recipe."""

    model: TrainModel
    optimizer: torch.optim.AdamW
    scaler: torch.amp.GradScaler
    step: int = 0

    def save(self, path: Path) -> None:
        """Write the state whole or not at all."""
        content = {
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }
        with atomic_path(path) as temporary:
            torch.save(content, temporary)

    def load(self, path: Path) -> None:
        """Continue from a saved state.

        Raises:
            UserError: the file is not such a state, or of another model.
        """
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
            self.model.load_state_dict(content["model"])
            self.optimizer.load_state_dict(content["optimizer"])
            self.scaler.load_state_dict(content["scaler"])
            self.step = content["step"]
        except Exception as error:
            # Unpickling a damaged file fails in many ways; all mean the same to the user.
            raise UserError(
                f"{path}: cannot be resumed from ({type(error).__name__}); train into another folder"
            ) from error


def start_state(model: TrainModel, recipe: Recipe) -> TrainingState:
    """The state before the first step."""
    return TrainingState(model, make_optimizer(model, recipe), torch.amp.GradScaler(enabled=recipe.precision == "fp16"))


def train_step(state: TrainingState, batch: Batch, recipe: Recipe, steps: int) -> dict[str, float]:
    """One optimiser step; returns the losses and the learning rate.

    Raises:
        FloatingPointError: the loss is not finite; the weights are unchanged.
    """
    rate = learning_rate(recipe, state.step, steps)
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    losses = step_losses(state.model, batch, recipe)
    if not bool(torch.isfinite(losses["loss"])):
        raise FloatingPointError(f"the loss is {losses['loss'].item()} at step {state.step}")
    state.optimizer.zero_grad(set_to_none=True)
    state.scaler.scale(losses["loss"]).backward()
    if recipe.clip_gradient > 0:
        state.scaler.unscale_(state.optimizer)
        torch.nn.utils.clip_grad_norm_(state.model.parameters(), recipe.clip_gradient)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    with torch.no_grad():
        state.model.clip.logit_scale.clamp_(0, math.log(recipe.max_logit_scale))
    state.step += 1
    return {name: value.item() for name, value in losses.items()} | {"lr": rate}
