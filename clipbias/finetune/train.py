"""A whole training: from a recipe to an exported checkpoint, through interruptions."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist

from clipbias.ahead import prefetched
from clipbias.data.dataset import RetrievalDataset
from clipbias.errors import UserError
from clipbias.files import write_text
from clipbias.finetune.batches import Batch, BatchMaker, batch_indices
from clipbias.finetune.loop import TrainingState, distributed, start_state, train_step
from clipbias.finetune.model import TrainModel
from clipbias.finetune.recipe import Recipe, read_recipe
from clipbias.models.checkpoint import write_tensors

Progress = Callable[[int, int, dict[str, float]], None]


def total_steps(recipe: Recipe, count: int) -> int:
    """Optimiser steps of the whole training on ``count`` samples.

    Raises:
        UserError: there are fewer samples than one batch takes.
    """
    if count < recipe.batch_size:
        raise UserError(f"{count} training captions do not fill one batch of {recipe.batch_size}; lower batch_size")
    return recipe.steps or int(recipe.epochs * (count // recipe.batch_size))


class _StopRequest:
    """Notes SIGTERM and SIGINT, so that the step in progress is finished and saved first."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> _StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def _note(self, number: int, frame: object) -> None:
        self.signal = number

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]


def train(
    model: TrainModel,
    maker: BatchMaker,
    recipe: Recipe,
    out: Path,
    resume: bool = False,
    save_every: float = 600.0,
    progress: Progress | None = None,
    validate: Callable[[TrainModel], dict[str, float]] | None = None,
) -> TrainingState:
    """Train ``model`` in place and keep ``out/state.pt`` up to date.

    A batch depends on (seed, step) alone, so a resumed run ends in the same weights as an
    uninterrupted one on the same device. Under ``torchrun`` every process takes an equal share of each
    batch; the first one writes.

    Args:
        model: the model to train, already on its device.
        maker: makes the batches.
        recipe: the recipe.
        out: folder for ``recipe.toml``, ``metrics.jsonl`` and ``state.pt``.
        resume: continue from ``out/state.pt`` where it is.
        save_every: seconds between saved states.
        progress: called after each step with (step, steps, values).
        validate: measures the model every ``recipe.validate_every`` steps and at the end, at the first process.

    Raises:
        UserError: ``out`` holds another training, the loss stopped being a number, or the processes
            cannot share the batch equally.
        KeyboardInterrupt: SIGINT or SIGTERM came; the state was saved first.
    """
    device = next(model.parameters()).device
    steps = total_steps(recipe, len(maker))
    rank, share = _share(recipe)
    state_file, recipe_file, metrics_file = out / "state.pt", out / "recipe.toml", out / "metrics.jsonl"
    state = start_state(model, recipe)
    if state_file.exists():
        if not resume:
            raise UserError(f"{out} already holds a training; continue it with --resume or choose another folder")
        # Read, not compared as text: a setting that came later has its default in an older run.
        earlier = read_recipe(recipe_file, Recipe(name=recipe.name, objective=recipe.objective))
        if not earlier.teaches_like(recipe):
            raise UserError(f"{recipe_file} differs from the recipe asked for; resume with the same settings")
        state.load(state_file)
    first = rank == 0
    kept = metrics_file.read_text("utf-8").splitlines()[: state.step] if state.step else []
    if first:
        write_text(recipe_file, recipe.to_toml())
        write_text(metrics_file, "".join(line + "\n" for line in kept))
    before = _seconds(kept)
    began = saved = time.monotonic()
    start = state.step

    def make(number: int) -> Batch:
        epoch, indices = batch_indices(len(maker), recipe.batch_size, recipe.seed, start + number)
        return maker.batch(indices[share].tolist(), epoch)

    batches = prefetched(make, steps - start, ahead=2 * recipe.workers, workers=recipe.workers)
    with (
        open(metrics_file if first else os.devnull, "a", encoding="utf-8") as metrics,
        _StopRequest() as stop,
        _board(out, recipe, first) as board,
    ):
        for batch in batches:
            step, step_began = state.step, time.monotonic()
            try:
                values = train_step(state, batch.to(device), recipe, steps)
            except FloatingPointError as error:
                # Nothing was changed by the step that failed: what was good until then is kept.
                failed = out / ("failed_batch.pt" if first else f"failed_batch-{rank}.pt")
                if first:
                    state.save(state_file)
                write_tensors(failed, batch.__dict__)
                raise UserError(f"{error}; its batch is in {failed}, the last good state in {state_file}") from error
            values["samples_per_second"] = round(recipe.batch_size / (time.monotonic() - step_began), 2)
            if device.type == "cuda":
                values["gpu_gib"] = round(torch.cuda.max_memory_allocated(device) / 2**30, 2)
            due = state.step % recipe.validate_every == 0 or state.step == steps
            if first and validate is not None and due:
                values |= validate(model)
            stopping = _any(stop.signal is not None, device)
            if first:
                seconds = before + time.monotonic() - began
                metrics.write(json.dumps({"step": step, **values, "seconds": round(seconds, 3)}) + "\n")
                metrics.flush()
                board(step, values)
                if progress is not None:
                    progress(state.step, steps, values)
                if stopping or time.monotonic() - saved > save_every:
                    state.save(state_file)
                    saved = time.monotonic()
            if stopping:
                batches.close()
                raise KeyboardInterrupt
    if first:
        state.save(state_file)
    return state


def _share(recipe: Recipe) -> tuple[int, slice]:
    """This process' number, and its share of a batch.

    Raises:
        UserError: the shares would not be equal.
    """
    if not distributed():
        return 0, slice(None)
    rank, size = dist.get_rank(), dist.get_world_size()
    if recipe.batch_size % size:
        raise UserError(f"batch_size {recipe.batch_size} cannot be shared equally by {size} processes")
    each = recipe.batch_size // size
    return rank, slice(rank * each, (rank + 1) * each)


def _any(mine: bool, device: torch.device) -> bool:
    """Whether it is so at any process; all stop after the same step."""
    if not distributed():
        return mine
    flag = torch.tensor(int(mine), device=device)
    dist.all_reduce(flag, dist.ReduceOp.MAX)
    return bool(flag)


@contextmanager
def _board(out: Path, recipe: Recipe, first: bool) -> Iterator[Callable[[int, dict[str, float]], None]]:
    """Writes metrics for TensorBoard, where the recipe asks for it.

    Raises:
        UserError: the package is not here.
    """
    if not (recipe.tensorboard and first):
        yield lambda step, values: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError("tensorboard = true needs that package: pip install tensorboard") from error
    with SummaryWriter(str(out / "tensorboard")) as writer:

        def write(step: int, values: dict[str, float]) -> None:
            for name, value in values.items():
                writer.add_scalar(name, value, step)

        yield write


def _seconds(lines: list[str]) -> float:
    """Seconds trained by the last of these metrics lines."""
    return float(json.loads(lines[-1])["seconds"]) if lines else 0.0


def last_metrics(out: Path) -> dict[str, float]:
    """The values of a run's last step; ``seconds`` are those of training, interruptions left out."""
    lines = (out / "metrics.jsonl").read_text("utf-8").splitlines()
    return json.loads(lines[-1]) if lines else {}


def training_pixels(dataset: RetrievalDataset) -> RetrievalDataset:
    """The same data set with decoded images kept in memory; for sets as small as the embedded one."""
    from dataclasses import replace

    from PIL import Image

    kept: dict[int, tuple[tuple[int, int], bytes]] = {}
    load = dataset.load_image

    def load_image(index: int) -> Image.Image:
        if index not in kept:
            image = load(index).convert("RGB")
            kept[index] = (image.size, image.tobytes())
        size, raw = kept[index]
        return Image.frombytes("RGB", size, raw)

    return replace(dataset, load_image=load_image)
