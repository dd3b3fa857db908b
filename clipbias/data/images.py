"""Image files that may come from anybody: found inside their folder, decoded within limits.

One rule. Images are turned upright by their EXIF orientation and converted to RGB before anything is resized, in data
sets and in ``Encoder.encode_images`` alike. The public evaluation code of CLIP-style models does neither: it opens
files with Pillow, ignores the orientation, and converts after resizing, which differs for palettes and transparency.
The option ``upright=False`` of every data set is the authors' way.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import TYPE_CHECKING, BinaryIO

from clipbias.errors import UserError
from clipbias.gate import check_count, count_limit, require_file

if TYPE_CHECKING:
    from PIL import Image

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


def verify_image(source: Path | BinaryIO, label: str = "") -> None:
    """Decode all of a file's data and keep nothing; a JPEG is decoded at an eighth of its size.

    Raises:
        UserError: as `open_image`.
    """
    with _opened(source, label) as image:
        image.draft(None, (image.width // 8, image.height // 8))
        image.load()
