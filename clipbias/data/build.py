"""From what a reader found to a checked `RetrievalDataset`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clipbias.data.dataset import RetrievalDataset
from clipbias.data.image_loaders import FileImages, SomeImages
from clipbias.data.images import safe_name
from clipbias.errors import UserError
from clipbias.gate import check_count, count_limit

if TYPE_CHECKING:
    from PIL import Image


def clean_caption(text: object, where: str) -> str:
    """A caption without white space at its ends.

    Args:
        text: as read.
        where: file and place, for the message.

    Raises:
        UserError: not a text, longer than the limit of ``characters``, with a NUL byte or half a surrogate pair.
    """
    if not isinstance(text, str):
        raise UserError(f"{where}: the caption is {type(text).__name__}, not text")
    check_count("characters", len(text), where, "characters in one caption")
    if "\0" in text:
        raise UserError(f"{where}: the caption holds a NUL byte; the file is damaged or not text")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UserError(
                f"{where}: the caption is not valid Unicode (half a surrogate pair); fix the file"
            ) from error
    return text.strip()


def build_dataset(
    name: str,
    split: str,
    protocol: str,
    pairs: Iterable[tuple[object, object, str]],
    root: Path,
    *,
    upright: bool = True,
    follow_links: bool = False,
    load_image: Callable[[int], Image.Image] | None = None,
) -> RetrievalDataset:
    """A data set from (image name, caption, where it was read) triples.

    Images keep the order of their first caption; captions keep theirs.

    Args:
        name: the registered name, or the path the user gave.
        split: which part.
        protocol: in words; ``{images}`` and ``{captions}`` are filled in.
        pairs: one a caption, names relative to ``root``.
        root: the folder of the images.
        upright: see `open_image`.
        follow_links: see `inside`.
        load_image: for images that are not files below ``root``.

    Raises:
        UserError: a name or a caption is refused, or there is no pair at all.
    """
    number: dict[str, int] = {}
    captions: list[str] = []
    owner: list[int] = []
    most = count_limit("captions")
    for image, caption, where in pairs:
        if len(captions) >= most:
            check_count("captions", len(captions) + 1, where, "captions or more")
        key = safe_name(image, where)
        captions.append(clean_caption(caption, where))
        owner.append(number.setdefault(key, len(number)))
    if not captions:
        raise UserError(f"{name}: no captions in {root}, split {split!r}")
    names = list(number)
    if not upright:
        protocol += "; EXIF orientation ignored, RGB after resizing"
    return RetrievalDataset(
        name=name,
        split=split,
        protocol=protocol.replace("{images}", f"{len(names):,}").replace("{captions}", f"{len(captions):,}"),
        image_names=names,
        load_image=load_image or FileImages(root.resolve(), names, upright, follow_links),
        captions=captions,
        caption_image=np.array(owner, dtype=np.int64),
    )


def without_images(dataset: RetrievalDataset, indices: Sequence[int], why: str = "unreadable") -> RetrievalDataset:
    """The data set without some images and their captions; their names go to ``skipped``.

    Args:
        dataset: the data set.
        indices: of the images that go.
        why: what they are; the protocol says it.

    Raises:
        UserError: nothing would be left.
    """
    if len(indices) == 0:
        return dataset
    keep_image = np.ones(len(dataset.image_names), dtype=bool)
    keep_image[list(indices)] = False
    kept = np.flatnonzero(keep_image).tolist()
    if len(kept) == 0:
        hint = "; run `clipbias data check` to see why" if why == "unreadable" else ""
        raise UserError(f"{dataset.name}: all {len(keep_image):,} images are {why}, none is left{hint}")
    keep_caption = np.flatnonzero(keep_image[dataset.caption_image]).tolist()
    renumbered = np.cumsum(keep_image) - 1
    short = dataset.short_captions
    return RetrievalDataset(
        name=dataset.name,
        split=dataset.split,
        protocol=f"{dataset.protocol}; {len(keep_image) - len(kept):,} {why} images left out with their captions",
        image_names=[dataset.image_names[i] for i in kept],
        load_image=SomeImages(dataset.load_image, kept),
        captions=[dataset.captions[i] for i in keep_caption],
        caption_image=renumbered[dataset.caption_image[keep_caption]].astype(np.int64),
        sentences=None if dataset.sentences is None else [dataset.sentences[i] for i in keep_caption],
        short_captions=None if short is None else [short[i] for i in kept],
        told_wrong=None if dataset.told_wrong is None else [dataset.told_wrong[i] for i in keep_caption],
        skipped=(*dataset.skipped, *(dataset.image_names[i] for i in np.flatnonzero(~keep_image).tolist())),
    )
