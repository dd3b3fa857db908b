"""clipbias: measure position bias of image-text models on long captions, and mitigate it by fine-tuning."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clipbias.api import (
        Results,
        card,
        compare,
        list_datasets,
        list_models,
        list_probes,
        load_results,
    )
    from clipbias.data.dataset import RetrievalDataset
    from clipbias.data.loading import load_dataset, register_dataset
    from clipbias.models.catalogue import register_model
    from clipbias.models.encoder import Encoder
    from clipbias.models.loading import load_model

__version__ = "1.0.0"
_LAZY = {
    "Encoder": "clipbias.models.encoder",
    "Results": "clipbias.api",
    "RetrievalDataset": "clipbias.data.dataset",
    "card": "clipbias.api",
    "compare": "clipbias.api",
    "list_datasets": "clipbias.api",
    "list_models": "clipbias.api",
    "list_probes": "clipbias.api",
    "load_dataset": "clipbias.data.loading",
    "load_model": "clipbias.models.loading",
    "load_results": "clipbias.api",
    "register_dataset": "clipbias.data.loading",
    "register_model": "clipbias.models.catalogue",
}
_CALLABLE = ("finetune", "probe", "report")
"""Folders of the package that are called like a command: ``clipbias.probe`` is both."""
__all__ = [
    "Encoder",
    "Results",
    "RetrievalDataset",
    "card",
    "compare",
    "finetune",
    "list_datasets",
    "list_models",
    "list_probes",
    "load_dataset",
    "load_model",
    "load_results",
    "probe",
    "register_dataset",
    "register_model",
    "report",
]


def __getattr__(name: str) -> object:
    """Import what is asked for only then, so that ``import clipbias`` stays cheap."""
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    if name in _CALLABLE:
        return import_module(f"clipbias.{name}")
    raise AttributeError(f"module 'clipbias' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Called(ModuleType):
    """A folder of the package that can be called as the function of `clipbias.api` of its name."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return getattr(import_module("clipbias.api"), self.__name__.rpartition(".")[2])(*args, **kwargs)

    @property
    def __signature__(self) -> object:
        """What editors and `help` show."""
        from inspect import signature

        return signature(getattr(import_module("clipbias.api"), self.__name__.rpartition(".")[2]))


class _Package(ModuleType):
    """The package; importing one of its folders binds it here, and makes it callable where a command is called so."""

    def __setattr__(self, name: str, value: object) -> None:
        if name in _CALLABLE and isinstance(value, ModuleType):
            value.__class__ = _Called
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
