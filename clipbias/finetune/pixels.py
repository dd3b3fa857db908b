"""Training images where they are cheapest to read."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from clipbias.data.dataset import RetrievalDataset

if TYPE_CHECKING:
    from PIL import Image


def training_pixels(dataset: RetrievalDataset) -> RetrievalDataset:
    """The same data set with decoded images kept in memory; for sets as small as the built-in one."""
    from PIL import Image

    kept: dict[int, tuple[tuple[int, int], bytes]] = {}
    load = dataset.load_image

    def load_image(index: int) -> Image.Image:
        if index not in kept:
            image = load(index).convert("RGB")
            kept[index] = (image.size, image.tobytes())
        size, raw = kept[index]
        return Image.frombytes("RGB", size, raw)

    return replace(dataset, load_image=load_image)
