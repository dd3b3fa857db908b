"""Names of models, checked before anything is loaded; what a name that is none could have been meant as."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from clipbias.errors import UserError

_ON_HUB = ("hf:", "openclip:hf-hub:")
_HUB = re.compile(r"^[\w.-]+/[\w.-]+(@[\w.-]+)?$")


def unknown_model(name: str) -> UserError:
    """The error for a name that is no registered model, no path and no library's; it says what to write."""
    from clipbias.models.catalogue import MODELS

    if _HUB.match(name) and not Path(name).suffix:
        return UserError(
            f"no model and no file is called {name!r}; a repository on the Hugging Face hub is written "
            f"hf:{name} (transformers) or openclip:hf-hub:{name} (open_clip)"
        )
    if "/" in name or Path(name).suffix in (".pt", ".bin", ".safetensors", ".pth"):
        return UserError(f"{name}: no such file; pass a checkpoint, a model folder, or a name of `clipbias models`")
    try:
        MODELS[name]
    except UserError as error:
        return error
    raise AssertionError(name)


def require_model(name: str, weights: str = "", revision: str = "", available: bool = True) -> None:
    """Refuse a name that is neither registered nor a place to load from, and a registered model that cannot be had.

    Args:
        name: as `clipbias.load_model` takes it.
        weights: the checkpoint file that was given with it.
        revision: the hub's revision that was given with it; what it needs is then asked of the hub alone.
        available: also refuse a registered model whose file is not here and cannot be downloaded.

    Raises:
        UserError: near names are suggested, or where to get the weights is said.
    """
    from clipbias.models.catalogue import MODELS
    from clipbias.models.entry import ModelEntry
    from clipbias.models.hub import require_repository, split_revision
    from clipbias.models.weights import require_weights

    if name not in MODELS and ":" not in name and not os.path.exists(weights or name):
        MODELS[name]
    if not available or weights or revision:
        return
    if name in MODELS:
        entry = MODELS[name]
        if isinstance(entry, ModelEntry):
            require_weights(name, entry)
    elif name.startswith(_ON_HUB):
        source = name.partition(":")[2].removeprefix("hf-hub:")
        if not Path(source).is_dir():
            require_repository(split_revision(source)[0])
    elif name.startswith("openclip:"):
        from clipbias.models.libraries.openclip_names import require_open_clip

        require_open_clip(name.partition(":")[2])


_STEP = re.compile(r".+-step-(\d+)(\.pt)?")


def wanted_models(names: Sequence[str]) -> list[str]:
    """The names, each once; a folder of a training's kept checkpoints stands for all of them, by their steps."""
    found: list[str] = []
    for name in names:
        here = Path(name).iterdir() if ":" not in name and os.path.isdir(name) else ()
        kept = sorted((int(m[1]), str(path)) for path in here if (m := _STEP.fullmatch(path.name)))
        found += [path for _, path in kept] or [name]
    return list(dict.fromkeys(found))
