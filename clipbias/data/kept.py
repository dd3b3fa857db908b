"""Pictures that are made by the program, each made once: held in memory, or in a file that several processes share."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from clipbias.data.dataset import RetrievalDataset
from clipbias.files import content_key
from clipbias.names import file_name

if TYPE_CHECKING:
    from PIL import Image

Load = Callable[[int], "Image.Image"]
_SEAL = len(content_key())


class KeptImages:
    """``load_image`` of pictures that are made, each made once; what they are made from is said as before."""

    def __init__(self, dataset: RetrievalDataset, kept: Load) -> None:
        self._load = kept
        for name in ("key", "keys"):
            if hasattr(dataset.load_image, name):
                setattr(self, name, getattr(dataset.load_image, name))

    def __call__(self, index: int) -> Image.Image:
        """The picture."""
        return self._load(index)


class _InFile:
    """Pictures of one size, each made by the process that needs it first and written to its place in a file.

    A picture's digest stands behind it: one that is not there, or that another process is writing just then, is made
    again. So processes need not wait for each other, and a disk that is full costs time alone.
    """

    def __init__(self, load: Load, file: Path) -> None:
        self._draw, self._file = load, file
        self._size = load(0).size
        self._bytes = 3 * self._size[0] * self._size[1]
        file.touch()

    def __call__(self, index: int) -> Image.Image:
        from PIL import Image

        place = index * (self._bytes + _SEAL)
        with self._file.open("rb", buffering=0) as file:
            file.seek(place)
            found = file.read(self._bytes + _SEAL)
        if found[self._bytes :] == content_key(found[: self._bytes]):
            return Image.frombytes("RGB", self._size, found[: self._bytes])
        picture = self._draw(index)
        raw = picture.tobytes()
        assert picture.mode == "RGB" and len(raw) == self._bytes
        with suppress(OSError), self._file.open("rb+", buffering=0) as file:
            file.seek(place)
            file.write(raw + content_key(raw))
        return picture


def with_kept_images(dataset: RetrievalDataset, shared: Path | None = None) -> RetrievalDataset:
    """The data set with its pictures kept; for small ones, where drawing a picture costs more than encoding it.

    Names, captions and fingerprint stay what they are.

    Args:
        dataset: its pictures are RGB and, where they are shared, of one size.
        shared: a folder in which processes that run at the same time share them; without it they are in memory.
    """
    kept: Load
    if shared is None:
        kept = lru_cache(maxsize=None)(dataset.load_image)
    else:
        kept = _InFile(dataset.load_image, shared / file_name(f"{dataset.name}-{dataset.split}"))
    return replace(dataset, load_image=KeptImages(dataset, kept))


def made_once(dataset: RetrievalDataset) -> RetrievalDataset:
    """`with_kept_images` where the pictures are made, for more than one reader; files are read again."""
    return dataset if hasattr(dataset.load_image, "check") else with_kept_images(dataset)
