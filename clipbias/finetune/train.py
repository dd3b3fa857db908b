"""A whole training: from a recipe to an exported checkpoint, through interruptions."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch

from clipbias.data.dataset import RetrievalDataset
from clipbias.errors import UserError
from clipbias.files import atomic_path, write_text
from clipbias.finetune.batches import BatchMaker, batch_indices
from clipbias.finetune.loop import TrainingState, start_state, train_step
from clipbias.finetune.model import TrainModel
from clipbias.finetune.recipe import Recipe, read_recipe

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
) -> TrainingState:
    """Train ``model`` in place and keep ``out/state.pt`` up to date.

    A batch depends on (seed, step) alone, so a resumed run ends in the same weights as an
    uninterrupted one on the same device.

    Args:
        model: the model to train, already on its device.
        maker: makes the batches.
        recipe: the recipe.
        out: folder for ``recipe.toml``, ``metrics.jsonl`` and ``state.pt``.
        resume: continue from ``out/state.pt`` where it is.
        save_every: seconds between saved states.
        progress: called after each step with (step, steps, losses).

    Raises:
        UserError: ``out`` holds another training, or the loss stopped being a number.
        KeyboardInterrupt: SIGINT or SIGTERM came; the state was saved first.
    """
    device = next(model.parameters()).device
    steps = total_steps(recipe, len(maker))
    state_file, recipe_file, metrics_file = out / "state.pt", out / "recipe.toml", out / "metrics.jsonl"
    state = start_state(model, recipe)
    if state_file.exists():
        if not resume:
            raise UserError(f"{out} already holds a training; continue it with --resume or choose another folder")
        # Read, not compared as text: a setting that came later has its default in an older run.
        if read_recipe(recipe_file, Recipe(name=recipe.name, objective=recipe.objective)) != recipe:
            raise UserError(f"{recipe_file} differs from the recipe asked for; resume with the same settings")
        state.load(state_file)
    write_text(recipe_file, recipe.to_toml())
    kept = metrics_file.read_text("utf-8").splitlines()[: state.step] if state.step else []
    write_text(metrics_file, "".join(line + "\n" for line in kept))
    before = _seconds(kept)
    began = saved = time.monotonic()
    with metrics_file.open("a", encoding="utf-8") as metrics, _StopRequest() as stop:
        while state.step < steps:
            epoch, indices = batch_indices(len(maker), recipe.batch_size, recipe.seed, state.step)
            batch = maker.batch(indices, epoch)
            step = state.step
            try:
                values = train_step(state, batch.to(device), recipe, steps)
            except FloatingPointError as error:
                # Nothing was changed by the step that failed: what was good until then is kept.
                state.save(state_file)
                with atomic_path(out / "failed_batch.pt") as temporary:
                    torch.save(batch.__dict__, temporary)
                raise UserError(
                    f"{error}; its batch is in {out / 'failed_batch.pt'}, the last good state in {state_file}"
                ) from error
            seconds = before + time.monotonic() - began
            metrics.write(json.dumps({"step": step, **values, "seconds": round(seconds, 3)}) + "\n")
            if progress is not None:
                progress(state.step, steps, values)
            if stop.signal is not None or time.monotonic() - saved > save_every:
                metrics.flush()
                state.save(state_file)
                saved = time.monotonic()
            if stop.signal is not None:
                raise KeyboardInterrupt
    state.save(state_file)
    return state


def _seconds(lines: list[str]) -> float:
    """Seconds trained by the last of these metrics lines."""
    return float(json.loads(lines[-1])["seconds"]) if lines else 0.0


def training_seconds(out: Path) -> float:
    """Seconds of training in a run's folder, interruptions left out."""
    return _seconds((out / "metrics.jsonl").read_text("utf-8").splitlines())


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
