"""clipbias: measure how image-text models read long captions, and fix what they read badly."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clipbias.data.dataset import RetrievalDataset
    from clipbias.data.loading import load_dataset, register_dataset
    from clipbias.models.catalogue import register_model
    from clipbias.models.encoder import Encoder
    from clipbias.models.loading import load_model

__version__ = "1.0.0"
_LAZY = {
    "Encoder": "clipbias.models.encoder",
    "RetrievalDataset": "clipbias.data.dataset",
    "load_dataset": "clipbias.data.loading",
    "load_model": "clipbias.models.loading",
    "register_dataset": "clipbias.data.loading",
    "register_model": "clipbias.models.catalogue",
}
__all__ = [
    "Encoder",
    "RetrievalDataset",
    "load_dataset",
    "load_model",
    "register_dataset",
    "register_model",
]


def __getattr__(name: str) -> object:
    """Import what is asked for only then, so that ``import clipbias`` stays cheap."""
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'clipbias' has no attribute {name!r}")
