"""``load_image`` of data sets: images from files, some of another's, and lists that decode when asked."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, overload

from clipbias.data.digests import file_digest, file_digests
from clipbias.data.images import inside, open_image, verify_image
from clipbias.errors import UserError
from clipbias.files import content_key

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class FileImages:
    """``load_image`` of data sets whose images are files; can be sent to worker processes."""

    root: Path
    names: Sequence[str]
    upright: bool = True
    follow_links: bool = False

    def __call__(self, index: int) -> Image.Image:
        return open_image(inside(self.root, self.names[index], self.follow_links), self.upright, rgb=self.upright)

    def check(self, index: int) -> None:
        """Raise what ``self(index)`` would raise, at the cost of a reduced decoding."""
        verify_image(inside(self.root, self.names[index], self.follow_links))

    def key(self, index: int) -> bytes:
        """A digest of what ``self(index)`` is made from: the file's bytes, and whether it is turned upright."""
        return self._key(file_digest(inside(self.root, self.names[index], self.follow_links)))

    def keys(self) -> list[bytes | None]:
        """`key` of every image, files that did not change read once; None where one cannot be read."""
        paths = [self._path(index) for index in range(len(self.names))]
        here = [path for path in paths if path is not None]
        found = iter(file_digests(self.root, here))
        digests = [None if path is None else next(found) for path in paths]
        return [None if digest is None else self._key(digest) for digest in digests]

    def _path(self, index: int) -> Path | None:
        try:
            return inside(self.root, self.names[index], self.follow_links)
        except UserError:
            return None

    def _key(self, digest: bytes) -> bytes:
        return content_key(digest, bytes([self.upright]))


@dataclass(frozen=True)
class SomeImages:
    """Images ``kept`` of another loader."""

    load: Callable[[int], Image.Image]
    kept: Sequence[int]

    def __call__(self, index: int) -> Image.Image:
        return self.load(self.kept[index])

    def check(self, index: int) -> None:
        """See `FileImages.check`."""
        check_image(self.load, self.kept[index])

    def key(self, index: int) -> bytes | None:
        """See `FileImages.key`; None where the other loader has none."""
        find = getattr(self.load, "key", None)
        return None if find is None else find(self.kept[index])

    def keys(self) -> list[bytes | None]:
        """See `FileImages.keys`."""
        if isinstance(self.load, FileImages):
            names = [self.load.names[index] for index in self.kept]
            return replace(self.load, names=names).keys()
        found = []
        for index in range(len(self.kept)):
            try:
                found.append(self.key(index))
            except UserError:
                found.append(None)
        return found


def check_image(load: Callable[[int], object], index: int) -> None:
    """Raise what ``load(index)`` would raise; cheaper where the loader has a ``check`` of its own."""
    getattr(load, "check", load)(index)


def image_keys(load: Callable[[int], object], count: int, workers: int | None = None) -> list[bytes | None]:
    """A digest of each image's content, without decoding it; None where it cannot be read or the loader has none.

    Args:
        load: ``load_image`` of a data set; one with ``key(index)`` or ``keys()`` says what its images are made from.
        count: of images.
        workers: threads; default one a core.
    """
    if hasattr(load, "keys"):
        found: list[bytes | None] = load.keys()[:count]
        return found
    find = getattr(load, "key", None)
    if find is None:
        return [None] * count

    def one(index: int) -> bytes | None:
        try:
            return find(index)
        except UserError:
            return None

    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        return list(pool.map(one, range(count)))


def _nobody(done: int) -> None:
    """Where nobody asks how far it is."""


class LazyImages(Sequence["Image.Image"]):
    """Images ``indices`` of a loader, each decoded when it is asked for.

    Attributes:
        told: an encoder that `streams <clipbias.models.encoder.Encoder>` them calls it with how many are done.
    """

    def __init__(
        self, load: Callable[[int], Image.Image], indices: Sequence[int], told: Callable[[int], None] = _nobody
    ) -> None:
        self.load, self.indices, self.told = load, indices, told

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, index: int) -> Image.Image: ...
    @overload
    def __getitem__(self, index: slice) -> LazyImages: ...
    def __getitem__(self, index: int | slice) -> Image.Image | LazyImages:
        if isinstance(index, slice):
            return LazyImages(self.load, self.indices[index])
        return self.load(self.indices[index])
