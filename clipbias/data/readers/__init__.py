"""Readers of the data sets in their authors' layouts, one small file each.

Every module in this folder is found by itself; nothing else has to be edited. It has ``SPECS``: name -> `DatasetSpec`.
"""

from __future__ import annotations

import importlib
import pkgutil

from clipbias.data.spec import DatasetSpec


def reader_specs() -> dict[str, DatasetSpec]:
    """All data sets of the readers, by name."""
    found: dict[str, DatasetSpec] = {}
    for module in sorted(module.name for module in pkgutil.iter_modules(__path__)):
        found |= importlib.import_module(f"{__name__}.{module}").SPECS
    return found
