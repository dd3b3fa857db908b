"""What a name that is no model could have been meant as."""

from __future__ import annotations

import re
from pathlib import Path

from clipbias.errors import UserError

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
