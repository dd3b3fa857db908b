"""The training step: losses, optimiser, schedule, and the state that is saved and resumed."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from clipbias.errors import UserError
from clipbias.finetune.batches import Batch
from clipbias.finetune.losses import info_nce, pca_reconstruct, sigmoid_loss
from clipbias.finetune.model import Features, TrainModel
from clipbias.finetune.processes import distributed, gathered
from clipbias.finetune.recipe import Recipe
from clipbias.gate import require_file, require_zip
from clipbias.models.checkpoint import write_tensors
from clipbias.models.encoder import DTYPES
from clipbias.models.towers import compile_towers


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The autocast block of a precision; fp32 switches it off."""
    return torch.autocast(device.type, DTYPES[precision], enabled=precision != "fp32")


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """A block in which, where wanted, the device gives the same bits each time."""
    before = torch.are_deterministic_algorithms_enabled()
    if not wanted:
        yield
        return
    # cuBLAS reads it when it starts; where it runs already, PyTorch says what to set.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def step_losses(net: nn.Module, batch: Batch, recipe: Recipe) -> dict[str, Tensor]:
    """The losses of one batch; "loss" is what is minimised (paper equation for L).

    "clip": the contrastive loss on the short captions. "long-short": ``weight_long * L_long + weight_short *
    L_short``, the short captions against the images' principal components. The contrastive loss is the model's own:
    SigLIP's where it has a bias of logits, else InfoNCE. The towers run in the
    recipe's precision, the losses in fp32. Under ``torchrun`` the batch is this process' share, and the
    losses are those of all shares together.

    Args:
        net: a `TrainModel`, or one wrapped by `DistributedDataParallel`.
        batch: its pixels on the model's device.
        recipe: the recipe.
    """
    return _losses(_forward(net, batch, recipe), recipe)


def _forward(net: nn.Module, batch: Batch, recipe: Recipe) -> Features:
    with autocast(batch.pixels.device, recipe.precision):
        return net(batch.pixels, batch.short_ids, batch.n_pre, batch.long_ids)


def _losses(features: Features, recipe: Recipe) -> dict[str, Tensor]:
    own_images, own_short, own_long, scale, bias = features

    def contrast(image: Tensor, text: Tensor) -> Tensor:
        if bias is not None:
            return sigmoid_loss(image, text, scale, bias)
        return info_nce(image, text, scale, recipe.label_smoothing)

    images = gathered(own_images)
    if own_long is None:
        assert own_short is not None  # the objective "clip"
        return {"loss": contrast(images, gathered(own_short))}
    long = contrast(images, gathered(own_long))
    if own_short is None:
        return {"loss": recipe.weight_long * long, "long": long}
    if recipe.pca_scope == "process":
        groups = own_images.split(recipe.pca_group or len(own_images))
        components = gathered(torch.cat([pca_reconstruct(group, recipe.pca_dim) for group in groups]))
    else:
        components = pca_reconstruct(images, recipe.pca_dim)
    short = contrast(components, gathered(own_short))
    return {"loss": recipe.weight_long * long + recipe.weight_short * short, "long": long, "short": short}


def backward(net: nn.Module, batch: Batch, recipe: Recipe, scaler: torch.amp.GradScaler) -> dict[str, float]:
    """Losses of a batch, their gradients added to the parameters'.

    Reading the losses, between the towers and the backward pass, is the one point at which the host waits for the
    device (beside ``torch.linalg.eigh``, just before, which reads its own status).

    With ``micro_batch`` the towers hold that many samples at a time: features of all parts first without gradients,
    the loss and its gradient at the features, then each part again (GradCache, Gao et al. 2021). The gradients are
    those of the whole batch. Nothing is added where the loss is not finite.
    """
    parts = batch.split(recipe.micro_batch)
    if len(parts) == 1:
        losses = step_losses(net, batch, recipe)
        values = _read(losses)
        if math.isfinite(values["loss"]):
            scaler.scale(losses["loss"]).backward()
        return values
    with torch.no_grad():
        first = [_forward(net, part, recipe) for part in parts]
    images, short, long, *_ = zip(*first, strict=True)
    leaves: list[Tensor | None] = [
        None if group[0] is None else torch.cat(group).requires_grad_() for group in (images, short, long)
    ]
    leaves += [None if value is None else value.detach().clone().requires_grad_() for value in first[0][3:]]
    losses = _losses(tuple(leaves), recipe)  # type: ignore[arg-type]
    values = _read(losses)
    if not math.isfinite(values["loss"]):
        return values
    scaler.scale(losses["loss"]).backward()
    start = 0
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        stop = start + len(part.pixels)
        # Gradients are exchanged once, after the last part.
        with nullcontext() if last or not isinstance(net, DistributedDataParallel) else net.no_sync():
            again = _forward(net, part, recipe)
            outputs, grads = [], []
            for place, (out, leaf) in enumerate(zip(again, leaves, strict=True)):
                if out is None or leaf is None or leaf.grad is None:
                    continue
                if place < 3:
                    outputs.append(out)
                    grads.append(leaf.grad[start:stop])
                elif last:  # temperature and bias are the batch's, not a sample's
                    outputs.append(out)
                    grads.append(leaf.grad)
            torch.autograd.backward(outputs, grads)
        start = stop
    return values


def _read(losses: dict[str, Tensor]) -> dict[str, float]:
    """The losses as numbers, in one copy from the device."""
    return dict(zip(losses, torch.stack(list(losses.values())).detach().cpu().tolist(), strict=True))


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """Linear warm-up over ``recipe.warmup`` steps, then a cosine to zero."""
    if step < recipe.warmup:
        return recipe.lr * (step + 1) / recipe.warmup
    done = (step - recipe.warmup) / max(1, steps - recipe.warmup)
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * done))


def make_optimizer(model: TrainModel, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW with the recipe's betas, eps and weight decay; where ``decay_on`` says so, on matrices only."""
    trained = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in trained if recipe.decay_on == "all" or p.ndim >= 2]
    others = [p for p in trained if recipe.decay_on != "all" and p.ndim < 2]
    return torch.optim.AdamW(
        [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=recipe.lr,
        betas=(recipe.beta1, recipe.beta2),
        eps=recipe.eps,
        fused=model.device.type in ("cpu", "cuda", "mps"),
    )


@dataclass
class TrainingState:
    """What a run carries from step to step; everything else follows from the recipe."""

    model: TrainModel
    optimizer: torch.optim.AdamW
    scaler: torch.amp.GradScaler
    net: nn.Module  # the model, or what exchanges its gradients between processes
    step: int = 0

    def save(self, path: Path) -> None:
        """Write the state whole or not at all."""
        content = {
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizer": _interned(self.optimizer.state_dict()),
            "scaler": self.scaler.state_dict(),
        }
        write_tensors(path, content)

    def load(self, path: Path) -> None:
        """Continue from a saved state.

        Raises:
            UserError: the file is not such a state, or of another model.
        """
        try:
            require_file(path, "checkpoint")
            require_zip(path, "checkpoint")
            content = torch.load(path, map_location="cpu", weights_only=True)
            self.model.load_state_dict(content["model"])
            self.optimizer.load_state_dict(content["optimizer"])
            self.scaler.load_state_dict(content["scaler"])
            self.step = content["step"]
        except UserError:
            raise
        except Exception as error:
            # Unpickling a damaged file fails in many ways; all mean the same to the user.
            raise UserError(
                f"{path}: cannot be resumed from ({type(error).__name__}); train into another folder"
            ) from error


def _interned(value: Any) -> Any:
    """The value with one string for equal keys of its dictionaries.

    Pickle tells by identity whether it has met a string; those that came from a file would be saved as other bytes.
    """
    if isinstance(value, dict):
        return {sys.intern(key) if type(key) is str else key: _interned(inner) for key, inner in value.items()}
    return [_interned(inner) for inner in value] if isinstance(value, list) else value


def start_state(model: TrainModel, recipe: Recipe) -> TrainingState:
    """The state before the first step; sets the logit scale where the recipe says so."""
    if recipe.log_scale and not model.sigmoid:
        with torch.no_grad():
            model.clip.logit_scale.fill_(recipe.log_scale)
    if recipe.checkpointing:
        model.clip.set_grad_checkpointing(True)
    if recipe.compile:
        compile_towers(model.clip, model.trims)
    net: nn.Module = model
    if distributed():
        # Without device_ids: with them, every input would be copied to the GPU, and lengths read back from it.
        net = DistributedDataParallel(model, gradient_as_bucket_view=True)
    scaler = torch.amp.GradScaler(model.device.type, enabled=recipe.precision == "fp16")
    return TrainingState(model, make_optimizer(model, recipe), scaler, net)


def train_step(state: TrainingState, batch: Batch, recipe: Recipe, steps: int) -> dict[str, float]:
    """One optimiser step; returns the losses and the learning rate.

    Raises:
        FloatingPointError: the loss is not finite; the weights are unchanged.
    """
    rate = learning_rate(recipe, state.step, steps)
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    state.optimizer.zero_grad(set_to_none=True)
    losses = backward(state.net, batch, recipe, state.scaler)
    if not math.isfinite(losses["loss"]):
        raise FloatingPointError(f"the loss is {losses['loss']} at step {state.step}")
    if recipe.clip_gradient > 0:
        state.scaler.unscale_(state.optimizer)
        torch.nn.utils.clip_grad_norm_(state.model.parameters(), recipe.clip_gradient)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    if recipe.max_logit_scale and not state.model.sigmoid:
        with torch.no_grad():
            state.model.clip.logit_scale.clamp_(0, math.log(recipe.max_logit_scale))
    state.step += 1
    return losses | {"lr": rate}
