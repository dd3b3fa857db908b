"""Images and captions that are in memory already: pairs, or the rows of a data frame."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clipbias.data.build import clean_caption
from clipbias.data.dataset import RetrievalDataset
from clipbias.data.images import open_image, verify_image
from clipbias.data.tables import CAPTION_COLUMNS, IMAGE_COLUMNS
from clipbias.errors import UserError
from clipbias.files import content_key

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class PairImages:
    """``load_image`` of pictures and paths."""

    images: Sequence[Any]

    def __call__(self, index: int) -> Image.Image:
        image = self.images[index]
        return open_image(image) if isinstance(image, Path) else image.convert("RGB")

    def check(self, index: int) -> None:
        """Raise what ``self(index)`` would raise."""
        if isinstance(self.images[index], Path):
            verify_image(self.images[index])

    def key(self, index: int) -> bytes:
        """A digest of the pixels, as the model gets them."""
        image = self(index)
        return content_key(str(image.size).encode(), image.tobytes())


def dataset_of_pairs(pairs: Iterable[tuple[Any, str]], name: str = "pairs") -> RetrievalDataset:
    """A data set of (image, caption) pairs; an image is a PIL image or a path, and may come several times.

    Raises:
        UserError: no pair, or something else than an image and a text; says which pair.
    """
    from PIL import Image

    places: dict[object, int] = {}
    images: list[Any] = []
    captions, owner = [], []
    for number, pair in enumerate(pairs):
        where = f"{name}, pair {number}"
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
            raise UserError(f"{where}: not (image, caption)")
        image, caption = pair
        if isinstance(image, (str, Path)):
            image = Path(image).expanduser()
        elif not isinstance(image, Image.Image):
            raise UserError(f"{where}: {type(image).__name__} is neither a PIL image nor a path")
        key = str(image) if isinstance(image, Path) else id(image)
        if key not in places:
            places[key] = len(images)
            images.append(image)
        captions.append(clean_caption(caption, where))
        owner.append(places[key])
    if not captions:
        raise UserError(f"{name}: no pairs of an image and a caption")
    names = [str(image) if isinstance(image, Path) else f"image {number}" for number, image in enumerate(images)]
    protocol = f"{name} (from Python): {len(images):,} images, {len(captions):,} captions"
    return RetrievalDataset(name, "all", protocol, names, PairImages(images), captions, np.array(owner, dtype=np.int64))


def dataset_of_frame(frame: Any, name: str = "frame") -> RetrievalDataset:
    """A data set of a data frame with an image and a caption column, called as in tables (docs/data.md).

    Raises:
        UserError: no such columns, or several that could be meant.
    """
    found = []
    for what, usual in (("image", IMAGE_COLUMNS), ("caption", CAPTION_COLUMNS)):
        columns = [column for column in usual if column in frame.columns]
        if len(columns) != 1:
            some = ", ".join(columns) if columns else f"none of {', '.join(usual)}"
            raise UserError(
                f"{name}: one {what} column is needed; found {some} among {', '.join(map(str, frame.columns))}"
            )
        found.append(columns[0])
    return dataset_of_pairs(zip(frame[found[0]], frame[found[1]], strict=True), name)
