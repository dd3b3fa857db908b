"""Families: readers that turn their authors' files into a library's names, one small file each.

Every module in this folder is one; nothing else has to be edited. It has

- ``recognise(state) -> str | None``: why this state dict is of the family, or None; of no file do two families say yes;
- ``read(state, **options) -> (state, options)``: open_clip's custom-text names, and the options as
  they took effect; a tensor that is missing raises ``KeyError``;
- ``SQUARE``: whether its authors resize images to a square instead of cropping them;
- ``CLEANING``, where it is not "openai": how its authors clean texts, see `clipbias.models.tokenizer`;
- ``MODELS``: name -> `ModelEntry` of the models that its authors published, and ``TITLES``: how people write the part
  of such a name before its size ("longclip" -> "Long-CLIP").

One whose files are a transformers folder with code of its own has, instead of ``SQUARE`` and ``CLEANING``,

- ``MODEL_TYPE``: what its config.json says, and ``BASE``: the kind of transformers' model whose names `read` gives;
- ``configured(content, options) -> content``: the config.json of that kind;
- ``image_options(image)``: arguments of the image processor for one image, and ``IMAGES``: what it chooses from.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import lru_cache
from types import ModuleType


def family_of_type(model_type: str) -> ModuleType | None:
    """The reader of a transformers folder with this ``model_type``."""
    return next((reader for reader in families().values() if getattr(reader, "MODEL_TYPE", None) == model_type), None)


@lru_cache(maxsize=1)
def families() -> dict[str, ModuleType]:
    """The reader modules by the name of their family."""
    found = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return {name: importlib.import_module(f"{__name__}.{name}") for name in found}
