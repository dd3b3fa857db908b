"""Packs: the pixels of a data set after resizing, on disk, so that evaluation and training decode nothing.

A pack is a folder with ``pixels`` (uint8 [N, H, W, 3], raw), ``keys`` (16 bytes per image: the digest of what it was
made from) and ``pack.json`` (shape, the rule of the resizing, the data set, a digest per chunk of images). The
transforms of CLIP-style models have no randomness, so pixels from a pack are those of the decoded file, bit for bit;
they take ``3 * H * W`` bytes per image (150,528 at 224 pixels). Reading is by memory map.

``pack.json`` is written after every chunk: an interrupted run resumes behind its last whole chunk.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clipbias.ahead import prefetched
from clipbias.errors import UserError
from clipbias.files import cannot_write, folder_lock, write_text
from clipbias.formats import read_json
from clipbias.gate import require_file

if TYPE_CHECKING:
    from PIL import Image

    from clipbias.data.dataset import RetrievalDataset

RULE = "clipbias_pixels"
"""The entry of a packed image's ``info`` that says how it was resized."""
CHUNK = 256
KEY = 16
_NONE = bytes(KEY)
_RECORD = "pack.json"
Pixels = Callable[["Image.Image"], np.ndarray]


@dataclass(frozen=True)
class Pack:
    """What ``pack.json`` says: N images of H x W pixels, resized by ``rule``, of the data set ``data``.

    ``names`` is a digest of the image names in order; ``chunks`` has SHA-256 of the pixels and keys of every `CHUNK`
    images that are finished.
    """

    images: int
    height: int
    width: int
    rule: str
    data: str
    split: str
    names: str
    chunks: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes per image."""
        return 3 * self.height * self.width

    @property
    def finished(self) -> bool:
        """Whether every image is in it."""
        return len(self.chunks) == -(-self.images // CHUNK)


def rule_text(rule: Mapping[str, object]) -> str:
    """The record of a resizing as one canonical text."""
    return json.dumps(dict(rule), sort_keys=True)


def _names_digest(dataset: RetrievalDataset) -> str:
    digest = hashlib.sha256()
    for name in dataset.image_names:
        raw = name.encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "big") + raw)
    return digest.hexdigest()


def read_pack(folder: Path) -> Pack:
    """The record of a pack.

    Raises:
        UserError: no pack there, or a damaged record.
    """
    path = folder / _RECORD
    content = read_json(path, "config")
    texts, counts = ("rule", "data", "split", "names"), ("images", "height", "width")
    if (
        not isinstance(content, dict)
        or content.keys() != {*texts, *counts, "chunks"}
        or not all(isinstance(content[k], str) for k in texts)
        or not all(type(content[k]) is int and 0 < content[k] < 1 << 32 for k in counts)
        or not isinstance(content["chunks"], list)
        or not all(isinstance(c, str) for c in content["chunks"])
        or len(content["chunks"]) > -(-content["images"] // CHUNK)
    ):
        raise UserError(f"{path}: not the record of a pack; make it again with `clipbias data pack`")
    return Pack(**{**content, "chunks": tuple(content["chunks"])})


def needed(dataset: RetrievalDataset, height: int, width: int) -> int:
    """Bytes that a pack of the data set takes."""
    return len(dataset.image_names) * (3 * height * width + KEY)


def write_pack(
    dataset: RetrievalDataset,
    folder: Path,
    rule: Mapping[str, object],
    pixels: Pixels,
    height: int,
    width: int,
    workers: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Pack:
    """Make a pack, or finish one that was interrupted; a finished one of the same things is left as it is.

    Args:
        dataset: whose images are packed.
        folder: where to.
        rule: the record of the resizing; a pack is read only by models with the same one.
        pixels: PIL image -> uint8 [height, width, 3].
        height, width: in pixels.
        workers: threads; decoding releases Python's lock. Default: one per core, at most 16.
        progress: called with ("images packed", done, total).

    Raises:
        UserError: the folder holds a pack of something else, the disk is too small, or an image cannot be read.
    """
    wanted = Pack(
        len(dataset.image_names),
        height,
        width,
        rule_text(rule),
        dataset.name,
        dataset.split,
        _names_digest(dataset),
        (),
    )
    with folder_lock(folder):
        pack = _resumed(folder, wanted)
        try:
            return pack if pack.finished else _finished(dataset, folder, pixels, pack, workers, progress)
        except OSError as error:
            raise cannot_write(folder, error, kept="what was packed is kept") from error


def _finished(
    dataset: RetrievalDataset,
    folder: Path,
    pixels: Pixels,
    pack: Pack,
    workers: int | None,
    progress: Callable[[str, int, int], None] | None,
) -> Pack:
    """See `write_pack`."""
    _require_space(folder, needed(dataset, pack.height, pack.width) - len(pack.chunks) * CHUNK * (pack.size + KEY))
    start = len(pack.chunks) * CHUNK
    if not pack.chunks:
        # First, so that what a killed run leaves is known for a pack.
        write_text(folder / _RECORD, json.dumps(asdict(pack), indent=1) + "\n")
    made = prefetched(_maker(dataset, pixels, pack, start), pack.images - start, ahead=CHUNK, workers=workers)
    with _appending(folder / "pixels", start * pack.size) as images, _appending(folder / "keys", start * KEY) as keys:
        for first in range(start, pack.images, CHUNK):
            digest = hashlib.sha256()
            for _ in range(min(CHUNK, pack.images - first)):
                raw, key = next(made)
                images.write(raw)
                keys.write(key)
                digest.update(raw + key)
            for file in (images, keys):
                file.flush()
                os.fsync(file.fileno())
            pack = replace(pack, chunks=(*pack.chunks, digest.hexdigest()))
            write_text(folder / _RECORD, json.dumps(asdict(pack), indent=1) + "\n")
            if progress is not None:
                progress("images packed", min(first + CHUNK, pack.images), pack.images)
    return pack


def _maker(dataset: RetrievalDataset, pixels: Pixels, pack: Pack, start: int) -> Callable[[int], tuple[bytes, bytes]]:
    """Offset from ``start`` -> pixels and key of that image."""
    find = getattr(dataset.load_image, "key", None)
    shape = (pack.height, pack.width, 3)

    def make(offset: int) -> tuple[bytes, bytes]:
        image = pixels(dataset.load_image(start + offset))
        if image.shape != shape or image.dtype != np.uint8:
            raise ValueError(f"pixels of shape {image.shape}, {image.dtype}; expected {shape}, uint8")
        return image.tobytes(), (find(start + offset) if find is not None else None) or _NONE

    return make


def _appending(path: Path, size: int):  # type: ignore[no-untyped-def]  # a binary file of one of typing's many kinds
    """A file open at ``size``; what an interrupted run left behind it is cut off."""
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise UserError(f"{path}: not a regular file; nothing is written there")
    try:
        file = path.open("r+b" if path.exists() else "w+b")
        file.truncate(size)
        file.seek(size)
    except OSError as error:
        raise cannot_write(path, error) from error
    return file


def _resumed(folder: Path, wanted: Pack) -> Pack:
    if not (folder / _RECORD).exists():
        folder.mkdir(parents=True, exist_ok=True)
        if any((folder / name).exists() for name in ("pixels", "keys")):
            raise UserError(f"{folder}: holds files called pixels or keys that are no pack; choose another folder")
        return wanted
    found = read_pack(folder)
    if replace(found, chunks=()) != wanted:
        raise UserError(f"{folder}: a pack of other images or with another resizing; choose another folder")
    return found


def _require_space(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if size > free:
        raise UserError(f"{folder}: the pack needs {size / 1e9:,.2f} GB more, {free / 1e9:,.2f} GB are free")


class PackedImages:
    """``load_image`` of a packed data set."""

    def __init__(self, folder: Path, pack: Pack) -> None:
        self.folder, self.pack = folder, pack

    @cached_property
    def _pixels(self) -> np.memmap:
        shape = (self.pack.images, self.pack.height, self.pack.width, 3)
        return np.memmap(self.folder / "pixels", np.uint8, "r", shape=shape)

    @cached_property
    def _keys(self) -> np.ndarray:
        return np.fromfile(self.folder / "keys", np.uint8).reshape(self.pack.images, KEY)

    def __call__(self, index: int) -> Image.Image:
        from PIL import Image

        image = Image.fromarray(self._pixels[index])
        image.info[RULE] = self.pack.rule
        return image

    def check(self, index: int) -> None:
        """Nothing to decode: the pack was checked when it was opened."""

    def key(self, index: int) -> bytes | None:
        """The digest of what the image was made from, as its own loader gives it; None where that has none."""
        key = self._keys[index].tobytes()
        return None if key == _NONE else key


def with_pack(dataset: RetrievalDataset, folder: Path, verify: bool = False) -> RetrievalDataset:
    """The data set with its images read from a pack.

    Args:
        dataset: as it was packed.
        folder: the pack.
        verify: read all of it and compare its digests.

    Raises:
        UserError: no finished pack of this data set, or a damaged one.
    """
    pack = read_pack(folder)
    if not pack.finished:
        raise UserError(f"{folder}: an unfinished pack; run `clipbias data pack` again to finish it")
    if (pack.images, pack.names) != (len(dataset.image_names), _names_digest(dataset)):
        raise UserError(
            f"{folder}: packed from {pack.data}, split {pack.split}; its images are not those of {dataset.name}"
        )
    for name, size in (("pixels", pack.size), ("keys", KEY)):
        found = require_file(folder / name, "unpacked").st_size
        if found != pack.images * size:
            raise UserError(f"{folder / name}: {found:,} bytes, expected {pack.images * size:,}; make the pack again")
    if verify:
        _verify(folder, pack)
    return replace(dataset, load_image=PackedImages(folder, pack))


def _verify(folder: Path, pack: Pack) -> None:
    with (folder / "pixels").open("rb") as images, (folder / "keys").open("rb") as keys:
        for number, expected in enumerate(pack.chunks):
            digest = hashlib.sha256()
            for _ in range(min(CHUNK, pack.images - number * CHUNK)):
                digest.update(images.read(pack.size) + keys.read(KEY))
            if digest.hexdigest() != expected:
                first = number * CHUNK
                raise UserError(f"{folder}: damaged between images {first} and {first + CHUNK - 1}; make it again")
