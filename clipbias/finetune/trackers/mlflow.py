"""MLflow: one run a process, on the server that ``MLFLOW_TRACKING_URI`` names, else in the current folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from clipbias.finetune.recipe import Recipe
from clipbias.finetune.trackers import Record, needed


@contextmanager
def mlflow(out: Path, recipe: Recipe) -> Iterator[Record]:
    """A run of the experiment that ``MLFLOW_EXPERIMENT_NAME`` names, else of "clipbias"."""
    library = needed("mlflow", "mlflow", "mlflow")
    library.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME") or "clipbias")
    with library.start_run(run_name=out.name):
        library.log_params(asdict(recipe))
        yield lambda step, values: library.log_metrics(dict(values), step=step)
