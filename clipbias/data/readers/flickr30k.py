"""Flickr30k: Karpathy's ``dataset_flickr30k.json`` or the token file, and ``flickr30k-images/``.

Scores on the whole set and on the 1,000 test images differ by tens of points, so they are two data sets here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from clipbias.data.build import build_dataset
from clipbias.data.dataset import RetrievalDataset
from clipbias.data.jsonfiles import field
from clipbias.data.roots import data_root, first_existing
from clipbias.data.spec import DatasetSpec
from clipbias.errors import UserError
from clipbias.formats import read_json
from clipbias.gate import read_text

_JSON = "dataset_flickr30k.json"
_TOKENS = "results_20130124.token"
_IMAGES = ("flickr30k-images", "flickr30k_images", "images")


def load_flickr30k_full(
    root: object = None, split: str | None = None, upright: bool = True, follow_links: bool = False
) -> RetrievalDataset:
    """Karpathy's train, val and test together (31,014 images), or split "token": the file with 31,783.

    Args:
        root: the folder with the annotation files and the images.
        split: "all" (default); train, val or test of Karpathy; or "token", which Long-CLIP's script reads.
        upright: apply the EXIF orientation.
        follow_links: allow links that lead out of the folder.

    Raises:
        UserError: no folder, the annotation file of that split is missing or broken, or no such split.
    """
    split = split or "all"
    folder = data_root("flickr30k-full", root, alike=("flickr30k", "flickr30k-1k"))
    if split == "token":
        pairs = _token_pairs(folder)
    elif split in ("all", "train", "val", "test"):
        pairs = _karpathy_pairs(folder, split)
    else:
        raise UserError(f"flickr30k-full has no split {split!r}; choose all, train, val, test or token")
    kind = "the token file" if split == "token" else f"Karpathy's splits, {split}"
    return build_dataset(
        "flickr30k-full",
        split,
        f"Flickr30k, {kind}: {{images}} images, {{captions}} captions",
        pairs,
        folder,
        upright=upright,
        follow_links=follow_links,
    )


def load_flickr30k_1k(
    root: object = None, split: str | None = None, upright: bool = True, follow_links: bool = False
) -> RetrievalDataset:
    """Karpathy's 1,000 test images.

    Raises:
        UserError: no folder, ``dataset_flickr30k.json`` is missing or broken, or another split is named.
    """
    if split not in (None, "test"):
        raise UserError(f"flickr30k-1k has no split {split!r}; only test (flickr30k-full has the others)")
    folder = data_root("flickr30k-1k", root, alike=("flickr30k", "flickr30k-full"))
    return build_dataset(
        "flickr30k-1k",
        "test",
        "Flickr30k, Karpathy's test split: {images} images, {captions} captions",
        _karpathy_pairs(folder, "test"),
        folder,
        upright=upright,
        follow_links=follow_links,
    )


def _karpathy_pairs(folder: Path, split: str) -> Iterator[tuple[object, object, str]]:
    file = folder / _JSON
    if not file.exists():
        raise UserError(f"{file}: missing; the splits are in Karpathy's caption_datasets.zip, not in the token file")
    images = first_existing(folder, _IMAGES, "the folder of the images").name
    rows = field(read_json(file), "images", str(file))
    for number, entry in enumerate(rows if isinstance(rows, list) else []):
        where = f"{file}, image {number:,}"
        if split in ("all", field(entry, "split", where)):
            sentences = field(entry, "sentences", where)
            for sentence in sentences if isinstance(sentences, list) else []:
                yield f"{images}/{field(entry, 'filename', where)}", field(sentence, "raw", where), where


_TOKEN_LINE = re.compile(r"([^\t]+)#\d+\t(.*)")


def _token_pairs(folder: Path) -> Iterator[tuple[object, object, str]]:
    file = folder / _TOKENS
    images = first_existing(folder, _IMAGES, "the folder of the images").name
    for number, line in enumerate(read_text(file, "json").split("\n"), 1):
        if not line.strip():
            continue
        match = _TOKEN_LINE.fullmatch(line.rstrip("\r"))
        if match is None:
            raise UserError(f"{file}, line {number:,}: expected NAME.jpg#K, a tab and a caption")
        yield f"{images}/{match[1]}", match[2], f"{file}, line {number:,}"


_LAYOUT = f"{_JSON} (splits) or {_TOKENS} (split token)\nflickr30k-images/1000092795.jpg ..."
FULL = DatasetSpec(
    load_flickr30k_full,
    title="Flickr30k, train + val + test: five short captions an image",
    licence="images under Flickr's terms, research use on request",
    homepage="https://shannon.cs.illinois.edu/DenotationGraph/",
    default_split="all",
    family="Flickr30k",
    counts={
        "all": (31_014, 155_070),
        "train": (29_000, 145_000),
        "val": (1_014, 5_070),
        "test": (1_000, 5_000),
        "token": (31_783, 158_915),
    },
    layout=_LAYOUT,
)
TEST_1K = DatasetSpec(
    load_flickr30k_1k,
    title="Flickr30k, Karpathy's 1,000 test images",
    licence=FULL.licence,
    homepage=FULL.homepage,
    default_split="test",
    family=FULL.family,
    counts={"test": (1_000, 5_000)},
    layout=f"{_JSON}\nflickr30k-images/1000092795.jpg ...",
)
SPECS = {"flickr30k-full": FULL, "flickr30k-1k": TEST_1K}
