"""A whole training: from a recipe to a trained model, through interruptions."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import torch

from clipbias.ahead import cores, prefetched
from clipbias.errors import UserError
from clipbias.finetune.batches import Batch, BatchMaker, batch_indices
from clipbias.finetune.folder import RunFolder
from clipbias.finetune.loop import TrainingState, deterministic, start_state, train_step
from clipbias.finetune.model import TrainModel
from clipbias.finetune.processes import at_any, share_of_batch
from clipbias.finetune.recipe import Recipe
from clipbias.finetune.stopping import StopRequest

Progress = Callable[[int, int, dict[str, float]], None]
Validate = Callable[[TrainModel], dict[str, float]]
Keep = Callable[[TrainModel, int], object]


def total_steps(recipe: Recipe, count: int) -> int:
    """Optimiser steps of the whole training on ``count`` samples.

    Raises:
        UserError: there are fewer samples than one batch takes.
    """
    if count < recipe.batch_size:
        raise UserError(f"{count} training captions do not fill one batch of {recipe.batch_size}; lower batch_size")
    return recipe.steps or int(recipe.epochs * (count // recipe.batch_size))


def train(
    model: TrainModel,
    maker: BatchMaker,
    recipe: Recipe,
    out: Path,
    resume: bool = False,
    save_every: float = 600.0,
    progress: Progress | None = None,
    validate: Validate | None = None,
    keep: Keep | None = None,
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
        keep: called there with the model and the steps done, every ``recipe.keep_every`` steps.

    Raises:
        UserError: ``out`` holds another training, the loss stopped being a number, or the processes
            cannot share the batch equally.
        KeyboardInterrupt: SIGINT came; the state was saved first.
        SystemExit: SIGTERM or SIGHUP came, likewise; the code is 128 and the signal's number.
    """
    steps = total_steps(recipe, len(maker))
    rank, share = share_of_batch(recipe)
    folder = RunFolder(out, recipe, rank)
    state = start_state(model, recipe)
    folder.continued(state, resume)
    batches = _batches(maker, recipe, share, state.step, steps, pin=model.device.type == "cuda")
    with folder.recording(state.step) as record, StopRequest() as stop, deterministic(recipe.deterministic):
        for waited, batch in _waited_for(batches):
            step = state.step
            values = _measured_step(state, batch, recipe, steps, folder, waited)
            due = state.step % recipe.validate_every == 0 or state.step == steps
            if folder.first and validate is not None and due:
                values |= validate(model)
            stopping = at_any(bool(stop.came))
            record(step, values)
            if folder.first and keep is not None and recipe.keep_every and state.step % recipe.keep_every == 0:
                keep(model, state.step)
            if folder.first and progress is not None:
                progress(state.step, steps, values)
            if stopping:
                folder.save(state)
                batches.close()
                stop.end()
            folder.save_every(state, save_every)
    folder.save(state)
    return state


def _batches(maker: BatchMaker, recipe: Recipe, share: slice, start: int, steps: int, pin: bool) -> Generator[Batch]:
    """This process' share of the batches from step ``start`` on, made ahead."""

    def make(number: int) -> Batch:
        epoch, indices = batch_indices(len(maker), recipe.batch_size, recipe.seed, start + number)
        batch = maker.batch(indices[share].tolist(), epoch)
        return batch.pinned() if pin else batch

    workers = recipe.workers or cores()
    # A thread makes a whole batch: what waits, beside the batches in the making, is what memory is for.
    return prefetched(make, steps - start, ahead=workers + 2, workers=workers)


def _waited_for(batches: Iterator[Batch]) -> Iterator[tuple[float, Batch]]:
    """Each batch, and the seconds that the training waited for it."""
    while True:
        began = time.monotonic()
        batch = next(batches, None)
        if batch is None:
            return
        yield time.monotonic() - began, batch


def _measured_step(
    state: TrainingState, batch: Batch, recipe: Recipe, steps: int, folder: RunFolder, waited: float
) -> dict[str, float]:
    """A step's values, with its speed, how long it waited for its batch, and the GPU's memory.

    Raises:
        UserError: the loss is NaN or infinite; the last good state and the batch were written.
    """
    device = state.model.device
    began = time.monotonic()
    try:
        values = train_step(state, batch.to(device), recipe, steps)
    except FloatingPointError as error:
        # Nothing was changed by the step that failed: what was good until then is kept.
        failed = folder.save_failed(state, batch)
        raise UserError(f"{error}; its batch is in {failed}, the last good state in {folder.state_file}") from error
    values["samples_per_second"] = round(recipe.batch_size / (waited + time.monotonic() - began), 2)
    values["waited_for_input"] = round(waited, 3)
    if device.type == "cuda":
        values["gpu_gib"] = round(torch.cuda.max_memory_allocated(device) / 2**30, 2)
    return values
