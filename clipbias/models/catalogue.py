"""The registered models: those of the families, open_clip's, and users' own."""

from __future__ import annotations

from collections.abc import Callable

from clipbias.models.entry import ModelEntry
from clipbias.models.families import families
from clipbias.registry import Registry

Factory = Callable[[], object]
MODELS: Registry[ModelEntry | Factory] = Registry("model", "clipbias.models")


def register_model(name: str) -> Callable[[Factory], Factory]:
    """Register a function without arguments that returns a model, under ``name``.

    The model is an `Encoder`, or any object with ``encode_texts`` and ``encode_images``
    (see `clipbias.models.wrapped.WrappedEncoder`).

    Raises:
        UserError: the name is taken.
    """

    def add(factory: Factory) -> Factory:
        MODELS.add(name, factory)
        return factory

    return add


_OPENCLIP = {
    "openclip-b16": ModelEntry("openclip", "ViT-B/16", 77, 512, "openclip:ViT-B-16/laion2b_s34b_b88k", size="600 MB"),
    "siglip-b16": ModelEntry("openclip", "ViT-B/16 SigLIP", 64, 768, "openclip:ViT-B-16-SigLIP/webli", size="813 MB"),
    "siglip2-b16": ModelEntry(
        "openclip", "ViT-B/16 SigLIP2", 64, 768, "openclip:ViT-B-16-SigLIP2/webli", size="1.5 GB"
    ),
}
for _entries in (*(reader.MODELS for reader in families().values()), _OPENCLIP):
    for _name, _entry in _entries.items():
        MODELS.add(_name, _entry)
