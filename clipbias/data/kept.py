"""Pictures that are made by the program, each made once and held in memory."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from clipbias.data.dataset import RetrievalDataset

if TYPE_CHECKING:
    from PIL import Image


class KeptImages:
    """``load_image`` of pictures that are made, each made once; what they are made from is said as before."""

    def __init__(self, dataset: RetrievalDataset) -> None:
        self._load = lru_cache(maxsize=None)(dataset.load_image)
        for name in ("key", "keys"):
            if hasattr(dataset.load_image, name):
                setattr(self, name, getattr(dataset.load_image, name))

    def __call__(self, index: int) -> Image.Image:
        """The picture."""
        return self._load(index)


def with_kept_images(dataset: RetrievalDataset) -> RetrievalDataset:
    """The data set with its pictures kept; for small ones, where drawing a picture costs more than encoding it.

    Names, captions and fingerprint stay what they are.
    """
    return replace(dataset, load_image=KeptImages(dataset))


def made_once(dataset: RetrievalDataset) -> RetrievalDataset:
    """`with_kept_images` where the pictures are made, for more than one reader; files are read again."""
    return dataset if hasattr(dataset.load_image, "check") else with_kept_images(dataset)
