"""The registered models: those of the families, open_clip's, and users' own."""

from __future__ import annotations

import re
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
_TITLES = {"openclip": "OpenCLIP", "siglip": "SigLIP", "siglip2": "SigLIP 2"}
_ENTRIES: dict[str, ModelEntry] = {}
for _reader in families().values():
    _ENTRIES |= _reader.MODELS
    _TITLES |= getattr(_reader, "TITLES", {})
_ENTRIES |= _OPENCLIP
for _name, _entry in _ENTRIES.items():
    MODELS.add(_name, _entry)


def title_of(name: str) -> str:
    """A model that ships with clipbias as people write it ("Long-CLIP B/16"); others by their own name."""
    entry = _ENTRIES.get(name)
    if entry is None:
        return name
    part = name
    while part not in _TITLES and "-" in part:
        part = part.rpartition("-")[0]
    title = _TITLES.get(part, name)
    size = re.search(r"([A-Za-z0-9]+/\d+)(?:, (\d+) px)?", entry.backbone.removeprefix("ViT-"))
    if part == name or part not in _TITLES or size is None:
        return title
    return f"{title} {size[1]}" + (f" {size[2]} px" if size[2] else "")
