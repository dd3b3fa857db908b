"""Image files that may come from anybody: found inside their folder, decoded within limits, checked in bulk.

One rule. Images are turned upright by their EXIF orientation and converted to RGB before anything is resized, in data
sets and in ``Encoder.encode_images`` alike. The public evaluation code of CLIP-style models does neither: it opens
files with Pillow, ignores the orientation, and converts after resizing, which differs for palettes and transparency.
The option ``upright=False`` of every data set is the authors' way.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import TYPE_CHECKING, BinaryIO, overload

from clipbias.data.digests import file_digest, file_digests
from clipbias.errors import UserError
from clipbias.files import content_key
from clipbias.gate import check_count, count_limit, require_file

if TYPE_CHECKING:
    from PIL import Image

    from clipbias.data.dataset import RetrievalDataset

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
"""What Pillow may decode; formats that start other programs (EPS) or hold documents (PDF) are not among them."""
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".avif"})

_NOT_IN_NAMES = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def safe_name(name: object, where: str) -> str:
    """``name`` as a relative path below a data folder, with forward slashes.

    Args:
        name: as read from an annotation file.
        where: file and place, for the message.

    Raises:
        UserError: not a text, empty, absolute, with ``..``, or with a NUL byte.
    """
    if not isinstance(name, str) or not name.strip("/. "):
        raise UserError(f"{where}: {name!r} is not the name of an image file")
    path = name.replace("\\", "/")
    if path.startswith("/") or path[1:2] == ":" or (".." in path and ".." in path.split("/")):
        raise UserError(f"{where}: the image name {name[:100]!r} leads out of the data folder; not read")
    if _NOT_IN_NAMES.search(path) or len(path) > 1000:
        raise UserError(f"{where}: the image name {name[:100]!r} holds control characters or is too long; not read")
    return str(PurePosixPath(path))


def inside(root: Path, name: str, follow_links: bool = False) -> Path:
    """``root / name`` where that stays inside ``root``, links included.

    Args:
        root: the data set's folder; may itself be a link.
        name: a relative path, see `safe_name`.
        follow_links: allow links below ``root`` that lead elsewhere, for folders one has linked oneself.

    Raises:
        UserError: the name leads out of the folder.
    """
    path = root / safe_name(name, str(root))
    if not follow_links:
        try:
            contained = path.resolve().is_relative_to(root.resolve())
        except (OSError, RuntimeError) as error:
            raise UserError(f"{name!r} below {root} cannot be resolved ({error})") from error
        if not contained:
            raise UserError(
                f"{name!r} is a link that leads out of the data folder {root}; it is not read "
                "(the option follow_links=true allows it)"
            )
    return path


def open_image(source: Path | BinaryIO, upright: bool = True, label: str = "", rgb: bool = True) -> Image.Image:
    """One decoded image.

    Args:
        source: a file's path, or its bytes as a binary file.
        upright: apply the EXIF orientation.
        label: what messages call it; default the path.
        rgb: converted to RGB; else in the mode of the file.

    Raises:
        UserError: not there, not a regular file, no image in one of `FORMATS`, damaged, or
            larger than the limits of ``pixels``, ``side`` and ``ratio`` (see `clipbias.gate.COUNTS`).
    """
    from PIL import ImageOps

    with _opened(source, label) as image:
        turned = ImageOps.exif_transpose(image) if upright else image
        if rgb:
            return turned.convert("RGB")
        turned.load()
        return turned.copy()


@lru_cache(maxsize=1)
def _pillow() -> ModuleType:
    """Pillow's Image module, silent about sizes, since `_opened` judges them itself."""
    from PIL import Image

    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    return Image


@contextmanager
def _opened(source: Path | BinaryIO, label: str) -> Iterator[Image.Image]:
    """An image whose header was read; whatever goes wrong inside the block becomes one `UserError`."""
    label = label or str(source)
    try:
        if isinstance(source, Path):
            require_file(source, "image")
        with _pillow().open(source, formats=FORMATS) as image:
            _check_size(image.width, image.height, label)
            yield image
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"{label}: missing") from error
    except MemoryError as error:
        # Says nothing of the image: --skip-bad must not leave it out for that.
        raise MemoryError(f"for {label}") from error
    # A decoder fed with hostile bytes raises nearly anything: OSError, SyntaxError, ValueError, struct.error, ...
    except Exception as error:
        raise UserError(f"{label}: unreadable image ({_reason(error)})") from error


def _check_size(width: int, height: int, label: str) -> None:
    size = f"{label}: {width:,} x {height:,} pixels are refused"
    longer, shorter = max(width, height), max(min(width, height), 1)
    if width * height > (most := count_limit("pixels")):
        raise UserError(f"{size} (limit {most:,} in all)")
    check_count("side", longer, size, "on one side")
    check_count("ratio", longer // shorter, size, "times as long as wide")


def _reason(error: Exception) -> str:
    if type(error).__name__ == "UnidentifiedImageError":
        return "not an image in a known format"
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]


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
        _check_one(self.load, self.kept[index])

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


def verify_image(source: Path | BinaryIO, label: str = "") -> None:
    """Decode all of a file's data and keep nothing; a JPEG is decoded at an eighth of its size.

    Raises:
        UserError: as `open_image`.
    """
    with _opened(source, label) as image:
        image.draft(None, (image.width // 8, image.height // 8))
        image.load()


@dataclass(frozen=True)
class BadImage:
    """An image that cannot be read: its index in the data set, its name, and why."""

    index: int
    name: str
    reason: str


def _check_one(load: Callable[[int], object], index: int) -> None:
    getattr(load, "check", load)(index)


def find_bad_images(
    dataset: RetrievalDataset,
    indices: Iterable[int] | None = None,
    workers: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[BadImage]:
    """Every image that is missing, unreadable, too large or outside its folder.

    Args:
        dataset: whose images are decoded, each once and at reduced size where the format allows.
        indices: only these; default all.
        workers: threads (decoding releases Python's lock); default one a core.
        progress: called with ("images checked", done, total).
    """
    chosen = list(range(len(dataset.image_names)) if indices is None else indices)

    def look(index: int) -> BadImage | None:
        try:
            _check_one(dataset.load_image, index)
        except UserError as error:
            return BadImage(index, dataset.image_names[index], str(error))
        return None

    bad = []
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        for done, found in enumerate(pool.map(look, chosen), 1):
            if found is not None:
                bad.append(found)
            if progress is not None and (done % 64 == 0 or done == len(chosen)):
                progress("images checked", done, len(chosen))
    return bad


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


class LazyImages(Sequence["Image.Image"]):
    """Images ``indices`` of a loader, each decoded when it is asked for."""

    def __init__(self, load: Callable[[int], Image.Image], indices: Sequence[int]) -> None:
        self.load, self.indices = load, indices

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


def require_readable(
    dataset: RetrievalDataset,
    progress: Callable[[str, int, int], None] | None = None,
    indices: Iterable[int] | None = None,
) -> None:
    """Stop before any encoding when an image, or one of ``indices``, cannot be read.

    Raises:
        UserError: lists every bad image, one a line after the first.
    """
    bad = find_bad_images(dataset, indices, progress=progress)
    if bad:
        listed = "".join(f"\n  {one.reason}" for one in bad)
        raise UserError(
            f"{dataset.name}: {len(bad):,} of {len(dataset.image_names):,} images cannot be read; "
            f"fix them, or leave them and their captions out with --skip-bad:{listed}"
        )
