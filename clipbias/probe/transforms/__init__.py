"""Caption perturbations: pure functions on a caption's sentences, registered by name, one small file a family.

A transform takes a tuple of sentences and returns another, or None where it cannot apply: such a caption stays as it
was and counts as not eligible. The annotations of its parameters say what a probe's file may give it (see
`clipbias.probe.parameters`). Every module in this folder is imported; nothing else has to be edited.
"""

from __future__ import annotations

import importlib
import pkgutil

from clipbias.probe.transforms._registry import TRANSFORMS, Sentences, Transform, check_call, register_transform

__all__ = ["TRANSFORMS", "Sentences", "Transform", "check_call", "register_transform"]

for _name in sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")):
    importlib.import_module(f"{__name__}.{_name}")
