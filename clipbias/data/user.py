"""Users' own data without code: a folder, a table, WebDataset shards, or a Hugging Face data set."""

from __future__ import annotations

import csv
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from clipbias.data.build import build_dataset, not_utf8, read_text
from clipbias.data.dataset import RetrievalDataset
from clipbias.data.images import SUFFIXES, inside, open_image, safe_name, verify_image
from clipbias.data.jsonfiles import read_json_lines
from clipbias.errors import UserError
from clipbias.files import content_key

if TYPE_CHECKING:
    from PIL import Image

HF_PREFIX = "hf:"
TABLES = (".csv", ".tsv", ".jsonl", ".jsonlines", ".parquet")
IMAGE_COLUMNS = ("image", "image_path", "image_file", "filepath", "file_path", "file_name", "filename", "path", "img")
CAPTION_COLUMNS = ("caption", "captions", "text", "description", "long_caption", "sentence", "sentences")
_LARGEST_TEXT = 1 << 20

Pair = tuple[object, object, str]


def is_user_data(name: str) -> bool:
    """Whether ``name`` looks like users' own data: a path that is there, a table, shards, or ``hf:``."""
    return (
        name.startswith((HF_PREFIX, "./", "../", "/", "~"))
        or Path(name).suffix in (*TABLES, ".tar")
        or Path(name).is_dir()
    )


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
    place = Path(path).expanduser()
    if not place.exists():
        raise UserError(f"{path}: no such file or folder, and no data set has that name (see `clipbias data list`)")
    if split is not None:
        raise UserError(f"{path}: data of one's own have no splits; leave out the split {split!r}")
    if place.is_dir() and ((place / "dataset_info.json").is_file() or (place / "dataset_dict.json").is_file()):
        return _hugging_face(path, place, split, columns, upright)
    shards = sorted(place.glob("*.tar")) if place.is_dir() else [place] if place.suffix == ".tar" else []
    if shards:
        return _shards(path, shards, upright)
    if place.is_dir():
        pairs: Iterable[Pair] = _folder_pairs(place, follow_links)
        base, kind = place, "images with text files beside them"
    elif place.suffix in TABLES:
        pairs = _table_pairs(place, columns)
        base, kind = Path(root).expanduser() if root else place.parent, f"{place.suffix[1:]} table"
    else:
        raise UserError(f"{path}: not recognised; expected a folder, {', '.join(TABLES)} or .tar")
    words = f"{place.name} ({kind}): {{images}} images, {{captions}} captions"
    return build_dataset(path, "all", words, pairs, base, upright=upright, follow_links=follow_links)


def _folder_pairs(folder: Path, follow_links: bool) -> Iterator[Pair]:
    """Every image below ``folder`` that has a .txt beside it, with the whole file as its caption."""
    images = sorted(f for f in folder.rglob("*") if f.suffix.lower() in SUFFIXES and f.is_file())
    if not images:
        raise UserError(f"{folder}: no images there ({', '.join(sorted(SUFFIXES))})")
    lonely = []
    for image in images:
        text = image.with_suffix(".txt")
        if not text.is_file():
            lonely.append(image.name)
            continue
        name = str(text.relative_to(folder))
        yield str(image.relative_to(folder)), read_text(inside(folder, name, follow_links)), str(text)
    if lonely:
        raise UserError(
            f"{folder}: {len(lonely):,} of {len(images):,} images have no .txt beside them, {lonely[0]} first; "
            "add their captions or move them away"
        )


def _column(chosen: str, usual: Sequence[str], columns: Iterable[object], where: str, what: str) -> str:
    """The column to read: the one named, else the only usual one."""
    names = [str(c) for c in columns]
    if chosen:
        if chosen not in names:
            raise UserError(f"{where}: no column {chosen!r}; it has {', '.join(names)}")
        return chosen
    found = [c for c in usual if c in names]
    if not found:
        raise UserError(
            f"{where}: no {what} column; it has {', '.join(names)}; name it with --option {what}_column=NAME"
        )
    return found[0]


def _table_pairs(file: Path, columns: tuple[str, str]) -> Iterator[Pair]:
    names: tuple[str, str] | None = None
    for entry, where in _table_rows(file):
        if names is None:
            names = (
                _column(columns[0], IMAGE_COLUMNS, entry, str(file), "image"),
                _column(columns[1], CAPTION_COLUMNS, entry, str(file), "caption"),
            )
        image, caption = entry.get(names[0]), entry.get(names[1])
        for text in caption if isinstance(caption, list) else [caption]:
            yield image, text, where


def _table_rows(file: Path) -> Iterator[tuple[dict[str, Any], str]]:
    if file.suffix in (".jsonl", ".jsonlines"):
        yield from read_json_lines(file)
        return
    if file.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            for batch in pq.ParquetFile(file).iter_batches():
                for number, entry in enumerate(batch.to_pylist()):
                    yield entry, f"{file}, row {number:,}"
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{file}: not a readable Parquet file ({' '.join(str(error).split())[:120]})") from error
        return
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines, delimiter="\t" if file.suffix == ".tsv" else ",", strict=True)
            for entry in reader:
                yield entry, f"{file}, line {reader.line_num:,}"
    except UnicodeDecodeError as error:
        raise not_utf8(file, error) from error
    except csv.Error as error:
        raise UserError(f"{file}: not a readable table ({error})") from error


@dataclass(frozen=True)
class _Member:
    """A file inside a shard: which shard, where in it, how long, and its name."""

    shard: Path
    offset: int
    size: int
    name: str


@dataclass(frozen=True)
class _ShardImages:
    """``load_image`` of images inside tar files; each is read at its offset."""

    members: Sequence[_Member]
    upright: bool

    def _bytes(self, index: int) -> tuple[BytesIO, str]:
        member = self.members[index]
        with member.shard.open("rb") as file:
            file.seek(member.offset)
            return BytesIO(file.read(member.size)), f"{member.shard}: {member.name}"

    def __call__(self, index: int) -> Image.Image:
        data, label = self._bytes(index)
        return open_image(data, self.upright, label, rgb=self.upright)

    def check(self, index: int) -> None:
        """Raise what ``self(index)`` would raise, at the cost of a reduced decoding."""
        verify_image(*self._bytes(index))

    def key(self, index: int) -> bytes:
        """See `clipbias.data.images.FileImages.key`."""
        return content_key(self._bytes(index)[0].getvalue(), b"upright" if self.upright else b"as the file has it")


def _shards(path: str, shards: Sequence[Path], upright: bool) -> RetrievalDataset:
    """WebDataset: files of one sample share their name up to the first dot; .txt or .json's "caption" is the text."""
    members: list[_Member] = []
    pairs: list[Pair] = []
    for shard in shards:
        images: dict[str, _Member] = {}
        texts: dict[str, tuple[str, str]] = {}
        try:
            with tarfile.open(shard, "r:") as archive:
                for info in archive:
                    if not info.isreg():
                        continue  # links and devices have no business in a shard
                    name = safe_name(info.name, str(shard))
                    folder, base = str(PurePosixPath(name).parent), PurePosixPath(name).name
                    key, _, suffix = base.partition(".")
                    sample, suffix = f"{folder}/{key}", f".{suffix.lower()}"
                    if suffix in SUFFIXES:
                        images[sample] = _Member(shard, info.offset_data, info.size, name)
                    elif suffix in (".txt", ".json"):
                        texts[sample] = (_member_text(archive, info, shard), suffix)
        except (tarfile.TarError, OSError, EOFError) as error:
            raise UserError(f"{shard}: not a readable tar file ({error}); compressed shards are not read") from error
        for sample, member in images.items():
            if sample not in texts:
                raise UserError(f"{shard}: {member.name} has no .txt or .json beside it")
            members.append(member)
            where = f"{shard}: {member.name}"
            pairs.append((f"{shard.name}/{member.name}", _caption_of(*texts[sample], where), where))
    words = f"{Path(path).name} (WebDataset, {len(shards)} shards): {{images}} images, {{captions}} captions"
    return build_dataset(path, "all", words, pairs, Path(path), load_image=_ShardImages(members, upright))


def _member_text(archive: tarfile.TarFile, info: tarfile.TarInfo, shard: Path) -> str:
    if info.size > _LARGEST_TEXT:
        raise UserError(f"{shard}: {info.name} is a text of {info.size:,} bytes (limit {_LARGEST_TEXT:,})")
    file = archive.extractfile(info)
    assert file is not None  # only regular files come here
    try:
        return file.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise not_utf8(shard / info.name, error) from error


def _caption_of(text: str, suffix: str, where: str) -> object:
    if suffix == ".txt":
        return text
    import json

    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: its .json is not JSON ({error})") from error
    if not isinstance(content, dict):
        raise UserError(f"{where}: its .json is no object")
    return content.get(_column("", CAPTION_COLUMNS, content, where, "caption"))


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
    image = _column(columns[0], IMAGE_COLUMNS, found.column_names, path, "image")
    caption = _column(columns[1], CAPTION_COLUMNS, found.column_names, path, "caption")

    def load_image(index: int) -> Image.Image:
        from PIL import ImageOps

        picture = found[index][image]
        return ImageOps.exif_transpose(picture).convert("RGB") if upright else picture

    def pairs() -> Iterator[Pair]:
        for number, texts in enumerate(found[caption]):
            for text in texts if isinstance(texts, list) else [texts]:
                yield f"row-{number:07d}", text, f"{path}, row {number:,}"

    words = f"{path} (Hugging Face datasets, split {split or 'all'}): {{images}} images, {{captions}} captions"
    return build_dataset(path, split or "all", words, pairs(), Path("."), load_image=load_image)
