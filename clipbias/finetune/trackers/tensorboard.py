"""TensorBoard: event files in the run's folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clipbias.finetune.recipe import Recipe
from clipbias.finetune.trackers import Record, needed


@contextmanager
def tensorboard(out: Path, recipe: Recipe) -> Iterator[Record]:
    """Scalars in ``out/tensorboard``."""
    library = needed("torch.utils.tensorboard", "tensorboard", "tensorboard")
    with library.SummaryWriter(str(out / "tensorboard")) as writer:

        def record(step: int, values: dict[str, float]) -> None:
            for name, value in values.items():
                writer.add_scalar(name, value, step)

        yield record
