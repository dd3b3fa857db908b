"""ShareGPT4V for training: one JSON array of 1,246,901 conversations, over 1 GB.

The first use streams the file once into an index in the cache folder; later uses map that index.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from clipbias.data.build import clean_caption
from clipbias.data.dataset import RetrievalDataset
from clipbias.data.image_loaders import FileImages
from clipbias.data.images import safe_name
from clipbias.data.index import IndexColumn, index_path, open_index, write_index
from clipbias.data.jsonfiles import field, stream_json_array
from clipbias.data.ondemand import OnDemand
from clipbias.data.roots import data_root
from clipbias.data.spec import DatasetSpec
from clipbias.errors import UserError

FILE = "share-captioner_coco_lcs_sam_1246k_1107.json"
HELD_OUT = 1_000
"""Rows 0..999 are the test set "ShareGPT4V-1k"; Long-CLIP's training leaves them out."""


def load_sharegpt4v(
    root: object = None,
    split: str | None = None,
    file: str = FILE,
    present_only: bool = False,
    without: str = "",
    upright: bool = True,
    follow_links: bool = True,
    progress: Callable[[str, int, int], None] | None = None,
) -> RetrievalDataset:
    """Training captions (rows from 1,000 on), or split "test": rows 0..999.

    Args:
        root: the folder with the JSON file and ``coco/train2017``, ``llava/llava_pretrain/images``, ``sam/images``.
        split: train (default) or test.
        file: the annotation file below ``root``.
        present_only: leave out the rows whose image file is not there (often half of the SAM images); the
            protocol and ``skipped`` say how many.
        without: leave out the images whose path starts so, e.g. "sam/".
        upright: apply the EXIF orientation.
        follow_links: allow links that lead out of the folder; on by default, because the three image
            folders are usually links to other disks.
        progress: called with ("rows indexed", bytes read, bytes in all) while the index is made.

    Raises:
        UserError: no folder or file, a broken row, or no row left.
    """
    folder = data_root("sharegpt4v", root)
    split = split or "train"
    if split not in ("train", "test"):
        raise UserError(f"sharegpt4v has no split {split!r}; choose train or test")
    source = folder / safe_name(file, "the option file")
    path, total, first = _indexed(source, progress)
    start, stop = (HELD_OUT, total) if split == "train" else (0, min(HELD_OUT, total))
    if stop <= start:
        raise UserError(f"{source}: {total:,} rows, all of them held out for split test")
    captions: Sequence[str] = IndexColumn(path, "caption", start, stop)
    names, owner = _images(path, first, start, stop, total)
    skipped: Sequence[str] = ()
    notes = ""
    if without or present_only:
        kept, skipped, notes = _chosen(folder, names, without, present_only)
        renumber = np.full(len(names), -1, dtype=np.int64)
        renumber[kept] = np.arange(len(kept))
        owner = renumber[owner]
        rows = np.flatnonzero(owner >= 0)
        captions, names, owner = Chosen(captions, rows), Chosen(names, np.array(kept)), owner[rows]
    return RetrievalDataset(
        name="sharegpt4v",
        split=split,
        protocol=f"ShareGPT4V, {split}: {len(names):,} images, {len(captions):,} captions "
        + (f"(rows from {HELD_OUT:,} on)" if split == "train" else f"(rows 0 to {HELD_OUT - 1})")
        + notes,
        image_names=names,
        load_image=FileImages(folder.resolve(), names, upright, follow_links),
        captions=captions,
        caption_image=owner,
        skipped=skipped,
    )


def _indexed(source: Path, progress: Callable[[str, int, int], None] | None) -> tuple[Path, int, np.ndarray]:
    """The file's index, made where it is not there: its path, rows, and the first row of each row's image."""
    path = index_path("sharegpt4v", [source])
    found = open_index(path)
    if found is None:
        write_index(path, _rows(source, progress))
        found = open_index(path)
        if found is None:
            raise UserError(f"{path}: the index cannot be read back; is the disk of the cache folder full?")
    return path, *found


def _images(path: Path, first: np.ndarray, start: int, stop: int, total: int) -> tuple[Sequence[str], np.ndarray]:
    """The images of rows ``start`` to ``stop``, each once, and the image of each row."""
    unique, owner = np.unique(first[start:stop], return_inverse=True)
    if len(unique) < stop - start or (len(unique) and unique[0] < start):
        every = IndexColumn(path, "image", 0, total)
        return [every[int(row)] for row in unique], owner
    # No image occurs twice: the mapped column itself is the list of names.
    return IndexColumn(path, "image", start, stop), np.arange(stop - start)


def _chosen(
    folder: Path, names: Sequence[str], without: str, present_only: bool
) -> tuple[list[int], Sequence[str], str]:
    """The images that stay: their indices, the names of those that are not there, and what the protocol says of it."""
    present = _present(folder) if present_only else None
    kept: list[int] = []
    skipped: list[str] = []
    for index, name in enumerate(names):
        if without and name.startswith(without):
            continue
        if present is None or present(name):
            kept.append(index)
        else:
            skipped.append(name)
    if not kept:
        raise UserError(f"{folder}: none of the {len(names):,} images is there; expected {SPEC.layout.splitlines()[1]}")
    notes = f"; {len(skipped):,} images that are not there left out" if present_only else ""
    return kept, skipped, notes + (f"; images below {without} left out" if without else "")


class Chosen(OnDemand[str]):
    """Some items of a sequence of texts, without a copy of them."""

    def __init__(self, items: Sequence[str], chosen: np.ndarray) -> None:
        self.items, self.chosen = items, chosen

    def __len__(self) -> int:
        return len(self.chosen)

    def item(self, place: int) -> str:
        """See `OnDemand`."""
        return self.items[int(self.chosen[place])]


def _rows(source: Path, progress: Callable[[str, int, int], None] | None) -> Iterator[tuple[str, str]]:
    size = source.stat().st_size if source.is_file() else 0
    for number, (entry, done) in enumerate(stream_json_array(source)):
        where = f"{source}, row {number:,}"
        image = safe_name(field(entry, "image", where), where)
        conversation = field(field(entry, "conversations", where), 1, where)
        yield image, clean_caption(field(conversation, "value", where), where)
        if progress is not None and number % 10_000 == 0:
            progress("rows indexed", done, size)


def _present(folder: Path) -> Callable[[str], bool]:
    """Whether an image is there; every folder is listed once, which beats a million calls to the disk."""
    listed: dict[str, set[str]] = {}

    def present(name: str) -> bool:
        parent, _, base = name.rpartition("/")
        if parent not in listed:
            try:
                listed[parent] = set(os.listdir(folder / parent))
            except OSError:
                listed[parent] = set()
        return base in listed[parent]

    return present


SPEC = DatasetSpec(
    load_sharegpt4v,
    title="ShareGPT4V, 1.2 million long machine-written captions, for training",
    licence="CC BY-NC 4.0 (captions); images from COCO, LLaVA and SA-1B under their licences",
    homepage="https://huggingface.co/datasets/Lin-Chen/ShareGPT4V",
    default_split="train",
    family="ShareGPT4V",
    counts={"train": (1_245_901, 1_245_901), "test": (1_000, 1_000)},
    layout=f"{FILE}\ncoco/train2017/, llava/llava_pretrain/images/, sam/images/",
    complete=False,
)
SPECS = {"sharegpt4v": SPEC}
