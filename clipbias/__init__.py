"""clipbias: measure position bias of image-text models on long captions, and mitigate it by fine-tuning."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

__version__ = "1.0.0"


def _public() -> dict[str, str]:
    """The public names of ``__init__.pyi`` and the modules that define them."""
    with open(f"{__path__[0]}/__init__.pyi", encoding="utf-8") as stub:
        lines = [line.split() for line in stub if line.startswith("from ")]
    return {line[-1]: line[1] for line in lines}


_PUBLIC = _public()
_CALLABLE = ("finetune", "probe", "report")
"""Folders of the package that are called like a command: ``clipbias.probe`` is both."""
__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> object:
    """Import what is asked for only then, so that ``import clipbias`` stays cheap."""
    if name in _CALLABLE:
        return import_module(f"clipbias.{name}")
    if name in _PUBLIC:
        return _defined(name)
    raise AttributeError(f"module 'clipbias' has no attribute {name!r}")


def _defined(name: str) -> Any:
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Called(ModuleType):
    """A folder of the package that can be called as the public function of its name."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _defined(self.__name__.rpartition(".")[2])(*args, **kwargs)

    @property
    def __signature__(self) -> object:
        """What editors and `help` show."""
        from inspect import signature

        return signature(_defined(self.__name__.rpartition(".")[2]))


class _Package(ModuleType):
    """The package; importing one of its folders binds it here, and makes it callable where a command is called so."""

    def __setattr__(self, name: str, value: object) -> None:
        if name in _CALLABLE and isinstance(value, ModuleType):
            value.__class__ = _Called
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
