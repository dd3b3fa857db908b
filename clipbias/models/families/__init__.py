"""Families: readers that turn their authors' files into open_clip's names, one small file each.

Every module in this folder is one; nothing else has to be edited. It has

- ``recognise(state) -> str | None``: why this state dict is of the family, or None; of no file do two families say yes;
- ``read(state, **options) -> (state, options)``: open_clip's custom-text names, and the options as
  they took effect; a tensor that is missing raises ``KeyError``;
- ``SQUARE``: whether its authors resize images to a square instead of cropping them;
- ``CLEANING``, where it is not "openai": how its authors clean texts, see `clipbias.models.tokenizer`;
- ``MODELS``: name -> `ModelEntry` of the models that its authors published.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import lru_cache
from types import ModuleType


@lru_cache(maxsize=1)
def families() -> dict[str, ModuleType]:
    """The reader modules by the name of their family."""
    found = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return {name: importlib.import_module(f"{__name__}.{name}") for name in found}
