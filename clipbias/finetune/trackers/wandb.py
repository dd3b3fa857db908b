"""Weights & Biases: one run a process, those of a resumed training in one group."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from clipbias.finetune.recipe import Recipe
from clipbias.finetune.trackers import Record, needed


@contextmanager
def wandb(out: Path, recipe: Recipe) -> Iterator[Record]:
    """A run of the project that ``WANDB_PROJECT`` names, else of "clipbias"; files lie in ``out``."""
    library = needed("wandb", "wandb", "wandb")
    project = os.environ.get("WANDB_PROJECT") or "clipbias"
    run = library.init(project=project, group=out.name, name=out.name, dir=str(out), config=asdict(recipe))
    try:
        yield lambda step, values: run.log(dict(values), step=step)
    except BaseException:
        run.finish(exit_code=1)
        raise
    run.finish()
