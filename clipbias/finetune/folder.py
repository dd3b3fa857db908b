"""A training's folder: its recipe, a line of metrics for every step, the state it resumes from."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from clipbias.errors import UserError
from clipbias.files import folder_lock, write_text
from clipbias.finetune.batches import Batch
from clipbias.finetune.loop import TrainingState
from clipbias.finetune.recipe import Recipe, read_recipe
from clipbias.finetune.trackers import Record, tracking
from clipbias.formats import parse_json
from clipbias.gate import read_text
from clipbias.models.checkpoint import write_tensors


class RunFolder:
    """``recipe.toml``, ``metrics.jsonl`` and ``state.pt`` of a training; only the first process writes them."""

    def __init__(self, out: Path, recipe: Recipe, rank: int) -> None:
        self.out, self.recipe, self.rank = out, recipe, rank
        self.state_file, self.metrics_file = out / "state.pt", out / "metrics.jsonl"
        self._saved = time.monotonic()

    @property
    def first(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    def continued(self, state: TrainingState, resume: bool) -> None:
        """Load the state of an interrupted training of the same recipe into ``state``, where there is one.

        Raises:
            UserError: the folder holds a training, and it is another one or not to be resumed.
        """
        if not self.state_file.exists():
            return
        if not resume:
            raise UserError(f"{self.out} already holds a training; continue it with --resume or choose another folder")
        recipe_file = self.out / "recipe.toml"
        # Read, not compared as text: a setting that came later has its default in an older run.
        earlier = read_recipe(recipe_file, Recipe(name=self.recipe.name, objective=self.recipe.objective))
        if not earlier.teaches_like(self.recipe):
            raise UserError(f"{recipe_file} differs from the recipe asked for; resume with the same settings")
        state.load(self.state_file)

    @contextmanager
    def recording(self, step: int) -> Iterator[Record]:
        """Within it, metrics are appended behind those of the first ``step`` steps; later ones are cut off.

        ``seconds`` is added to the values: of training, interruptions left out.
        """
        if not self.first:
            yield lambda step, values: None
            return
        kept = read_text(self.metrics_file, "rows").splitlines()[:step] if step else []
        write_text(self.out / "recipe.toml", self.recipe.to_toml())
        write_text(self.metrics_file, "".join(line + "\n" for line in kept))
        before = _values(kept[-1], self.metrics_file).get("seconds", 0.0) if kept else 0.0
        began = self._saved = time.monotonic()
        with open(self.metrics_file, "a", encoding="utf-8") as metrics, tracking(self.out, self.recipe) as tracked:

            def record(step: int, values: dict[str, float]) -> None:
                seconds = round(before + time.monotonic() - began, 3)
                metrics.write(json.dumps({"step": step, **values, "seconds": seconds}) + "\n")
                metrics.flush()
                tracked(step, values)

            yield record

    def save(self, state: TrainingState) -> None:
        """Write the state whole or not at all."""
        if self.first:
            state.save(self.state_file)
            self._saved = time.monotonic()

    def save_every(self, state: TrainingState, seconds: float) -> None:
        """Write the state where the last one is older."""
        if time.monotonic() - self._saved > seconds:
            self.save(state)

    def save_failed(self, state: TrainingState, batch: Batch) -> Path:
        """Write the last good state, and the batch of the step that failed; returns the batch's file."""
        self.save(state)
        path = self.out / ("failed_batch.pt" if self.first else f"failed_batch-{self.rank}.pt")
        write_tensors(path, batch.__dict__)
        return path


def last_metrics(out: Path) -> dict[str, float]:
    """The values of a run's last step; ``seconds`` are those of training, interruptions left out.

    Raises:
        UserError: the file is damaged.
    """
    path = out / "metrics.jsonl"
    lines = read_text(path, "rows").splitlines()
    return _values(lines[-1], path) if lines else {}


def all_metrics(out: Path) -> list[dict[str, float]]:
    """The values of all of a run's steps.

    Raises:
        UserError: the file is damaged.
    """
    path = out / "metrics.jsonl"
    return [_values(line, path) for line in read_text(path, "rows").splitlines()]


def _values(line: str, path: Path) -> dict[str, float]:
    found = parse_json(line, path)
    if not isinstance(found, dict) or not all(type(value) in (int, float) for value in found.values()):
        raise UserError(f"{path}: a line holds something else than numbers; train into another folder")
    return found


@contextmanager
def training_lock(folder: Path) -> Iterator[None]:
    """One training at a time in a folder; under ``torchrun`` process 0 holds the lock for all.

    Raises:
        UserError: another training writes there.
    """
    with folder_lock(folder) if os.environ.get("RANK", "0") == "0" else nullcontext():
        yield
