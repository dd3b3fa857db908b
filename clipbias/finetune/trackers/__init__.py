"""Where a training's metrics are logged besides ``metrics.jsonl``, one small file each.

Every module in this folder is a tracker of its name and holds a context manager of that name, ``(out, recipe) ->
record``; nothing else has to be edited. Others are found in the entry-point group ``clipbias.trackers``.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from types import ModuleType

from clipbias.errors import UserError
from clipbias.finetune.recipe import Recipe
from clipbias.registry import Registry

Record = Callable[[int, dict[str, float]], None]
"""Takes a step and its values."""
Tracker = Callable[[Path, Recipe], AbstractContextManager[Record]]
TRACKERS: Registry[Tracker] = Registry("tracker", "clipbias.trackers")
for _name in sorted(module.name for module in pkgutil.iter_modules(__path__)):
    TRACKERS.add(_name, f"{__name__}.{_name}:{_name}")


@contextmanager
def tracking(out: Path, recipe: Recipe) -> Iterator[Record]:
    """Within it, what is recorded goes to every tracker that ``recipe.log_to`` names.

    Raises:
        UserError: no such tracker, or its package is not installed.
    """
    names = [name.strip() for name in recipe.log_to.split(",") if name.strip()]
    with ExitStack() as stack:
        records = [stack.enter_context(TRACKERS[name](out, recipe)) for name in dict.fromkeys(names)]

        def record(step: int, values: dict[str, float]) -> None:
            for one in records:
                one(step, values)

        yield record


def needed(module: str, tracker: str, package: str) -> ModuleType:
    """The imported ``module`` of a tracker.

    Raises:
        UserError: the package is not installed.
    """
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"log_to = {tracker!r} needs a package that is not here: pip install {package}") from error
