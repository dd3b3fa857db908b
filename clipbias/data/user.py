"""Users' own data without code: a folder, a table, WebDataset shards, or a Hugging Face data set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipbias.data.build import build_dataset
from clipbias.data.dataset import RetrievalDataset
from clipbias.data.digests import file_digest
from clipbias.data.images import SUFFIXES, inside, open_image
from clipbias.data.shards import open_shards
from clipbias.data.tables import CAPTION_COLUMNS, IMAGE_COLUMNS, column, table_pairs
from clipbias.data.tables import SUFFIXES as TABLES
from clipbias.errors import UserError
from clipbias.files import content_key
from clipbias.gate import check_count, count_limit, read_text

if TYPE_CHECKING:
    from PIL import Image

HF_PREFIX = "hf:"
Pair = tuple[object, object, str]


def is_user_data(name: str) -> bool:
    """Whether ``name`` looks like users' own data: a path that is there, a table, shards, or ``hf:``."""
    if not name:
        return False
    if name.startswith((HF_PREFIX, "./", "../", "/", "~")) or Path(name).suffix in (*TABLES, ".tar"):
        return True
    try:
        return Path(name).is_dir()
    except (OSError, ValueError):  # longer than any name of a file, or with a NUL byte
        return False


def open_user_data(
    path: str,
    root: str | Path | None = None,
    split: str | None = None,
    image_column: str = "",
    caption_column: str = "",
    upright: bool = True,
    follow_links: bool = False,
) -> RetrievalDataset:
    """The data at ``path``; what they are is seen from the path.

    Args:
        path: a folder of images with .txt files of the same name beside them; a CSV, TSV, JSONL or Parquet file
            with an image and a caption column; a WebDataset .tar or a folder of them; ``hf:NAME`` or a folder saved
            by the ``datasets`` library.
        root: the folder that image names in a table start from; default the table's own.
        split: of a Hugging Face data set.
        image_column, caption_column: where the columns have other names than the usual ones.
        upright: apply the EXIF orientation.
        follow_links: allow links that lead out of the folder.

    Raises:
        UserError: nothing there, not recognised, no such column, or a broken row; names the place.
    """
    columns = (image_column, caption_column)
    if path.startswith(HF_PREFIX):
        return _hugging_face(path, path.removeprefix(HF_PREFIX), split, columns, upright)
    try:
        place = Path(path).expanduser()
        there = place.exists()
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"{path[:100]}: not a path ({getattr(error, 'strerror', None) or error})") from error
    if not there:
        raise UserError(f"{path}: no such file or folder, and no data set has that name (see `clipbias data list`)")
    if split is not None:
        raise UserError(f"{path}: data of one's own have no splits; leave out the split {split!r}")
    if place.is_dir() and ((place / "dataset_info.json").is_file() or (place / "dataset_dict.json").is_file()):
        return _hugging_face(path, place, split, columns, upright)
    shards = sorted(place.glob("*.tar")) if place.is_dir() else [place] if place.suffix == ".tar" else []
    if shards:
        return open_shards(path, shards, upright)
    if place.is_dir():
        pairs: Iterable[Pair] = _folder_pairs(place, follow_links)
        base, kind = place, "images with text files beside them"
    elif place.suffix in TABLES:
        pairs = table_pairs(place, columns)
        base, kind = Path(root).expanduser() if root else place.parent, f"{place.suffix[1:]} table"
    else:
        raise UserError(f"{path}: not recognised; expected a folder, {', '.join(TABLES)} or .tar")
    words = f"{place.name} ({kind}): {{images}} images, {{captions}} captions"
    return build_dataset(path, "all", words, pairs, base, upright=upright, follow_links=follow_links)


def _folder_pairs(folder: Path, follow_links: bool) -> Iterator[Pair]:
    """Every image below ``folder`` that has a .txt beside it, with the whole file as its caption."""
    images, most = [], count_limit("captions")
    for file in folder.rglob("*"):
        if file.suffix.lower() in SUFFIXES and file.is_file():
            images.append(file)
            if len(images) > most:
                check_count("captions", len(images), str(folder), "images or more")
    images.sort()
    if not images:
        raise UserError(f"{folder}: no images there ({', '.join(sorted(SUFFIXES))})")
    lonely = []
    for image in images:
        text = image.with_suffix(".txt")
        if not text.is_file():
            lonely.append(image.name)
            continue
        name = str(text.relative_to(folder))
        yield str(image.relative_to(folder)), read_text(inside(folder, name, follow_links), "caption"), str(text)
    if lonely:
        raise UserError(
            f"{folder}: {len(lonely):,} of {len(images):,} images have no .txt beside them, {lonely[0]} first; "
            "add their captions or move them away"
        )


@dataclass(frozen=True)
class _HubImages:
    """``load_image`` of a data set of the ``datasets`` library: its bytes are decoded here, within the limits.

    ``rows`` have the column undecoded.
    """

    rows: Any
    column: str
    upright: bool

    def _raw(self, index: int) -> tuple[BytesIO | Path, str]:
        """The encoded image of a row: its bytes, or the file that it names."""
        raw = self.rows[index][self.column]
        label = f"row {index:,}, column {self.column}"
        if not isinstance(raw, dict) or not (raw.get("bytes") or raw.get("path")):
            raise UserError(f"{label}: no image there")
        return BytesIO(raw["bytes"]) if raw.get("bytes") else Path(raw["path"]), label

    def __call__(self, index: int) -> Image.Image:
        source, label = self._raw(index)
        return open_image(source, self.upright, label)

    def key(self, index: int) -> bytes:
        """See `clipbias.data.image_loaders.FileImages.key`."""
        source, _ = self._raw(index)
        raw = source.getvalue() if isinstance(source, BytesIO) else file_digest(source)
        return content_key(raw, bytes([self.upright]))


def _hugging_face(
    path: str, source: str | Path, split: str | None, columns: tuple[str, str], upright: bool
) -> RetrievalDataset:
    """A data set of the ``datasets`` library: a saved folder, or a name on the hub."""
    try:
        import datasets
    except ImportError as error:
        raise UserError(f"{path} needs the datasets library: pip install datasets") from error
    try:
        found = (
            datasets.load_from_disk(str(source))
            if isinstance(source, Path)
            else datasets.load_dataset(source, trust_remote_code=False)
        )
    except Exception as error:
        # The library and the hub client raise many types; the user needs one line of any of them.
        raise UserError(
            f"{path}: cannot be opened ({type(error).__name__}: {' '.join(str(error).split())[:150]})"
        ) from error
    if isinstance(found, datasets.DatasetDict):
        split = split or ("test" if "test" in found else next(iter(found)))
        if split not in found:
            raise UserError(f"{path}: no split {split!r}; it has {', '.join(found)}")
        found = found[split]
    image = column(columns[0], IMAGE_COLUMNS, found.column_names, path, "image")
    caption = column(columns[1], CAPTION_COLUMNS, found.column_names, path, "caption")

    def pairs() -> Iterator[Pair]:
        for number, texts in enumerate(found[caption]):
            for text in texts if isinstance(texts, list) else [texts]:
                yield f"row-{number:07d}", text, f"{path}, row {number:,}"

    words = f"{path} (Hugging Face datasets, split {split or 'all'}): {{images}} images, {{captions}} captions"
    try:
        rows = found.cast_column(image, datasets.Image(decode=False))
    except Exception as error:  # Arrow's, the library's own, and what Python has for odd columns
        reason = " ".join(str(error).split())[:150]
        raise UserError(f"{path}: the column {image!r} holds no images ({reason})") from error
    made = _HubImages(rows, image, upright)
    return build_dataset(path, split or "all", words, pairs(), Path("."), load_image=made)
