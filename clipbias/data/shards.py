"""WebDataset shards: images and texts inside tar files, read in place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from clipbias.data.build import build_dataset
from clipbias.data.dataset import RetrievalDataset
from clipbias.data.images import SUFFIXES, open_image, safe_name, verify_image
from clipbias.data.tables import CAPTION_COLUMNS, column
from clipbias.data.tars import open_tar
from clipbias.errors import UserError
from clipbias.files import content_key
from clipbias.formats import parse_json
from clipbias.gate import not_utf8, open_file, size_limit, variable

if TYPE_CHECKING:
    import tarfile

    from PIL import Image

Pair = tuple[object, object, str]


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
        label = f"{member.shard}: {member.name}"
        if member.size > (most := size_limit("image")):
            raise UserError(f"{label}: {member.size:,} bytes (limit {most:,}; {variable('image_bytes')} sets it)")
        with open_file(member.shard, "archive") as file:
            file.seek(member.offset)
            return BytesIO(file.read(member.size)), label

    def __call__(self, index: int) -> Image.Image:
        data, label = self._bytes(index)
        return open_image(data, self.upright, label, rgb=self.upright)

    def check(self, index: int) -> None:
        """Raise what ``self(index)`` would raise, at the cost of a reduced decoding."""
        verify_image(*self._bytes(index))

    def key(self, index: int) -> bytes:
        """See `clipbias.data.image_loaders.FileImages.key`."""
        return content_key(self._bytes(index)[0].getvalue(), b"upright" if self.upright else b"as the file has it")


def open_shards(path: str, shards: Sequence[Path], upright: bool) -> RetrievalDataset:
    """WebDataset: files of one sample share their name up to the first dot; .txt or .json's "caption" is the text.

    Args:
        path: what the user gave, which the data set is called.
        shards: the tar files, uncompressed.
        upright: apply the EXIF orientation.

    Raises:
        UserError: no tar file, damaged, an image without a text, or a text that is none.
    """
    members: list[_Member] = []
    pairs: list[Pair] = []
    for shard in shards:
        images: dict[str, _Member] = {}
        texts: dict[str, tuple[str, str]] = {}
        with open_tar(shard, compressed=False) as found:
            for archive, info in found:
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
        for sample, member in images.items():
            if sample not in texts:
                raise UserError(f"{shard}: {member.name} has no .txt or .json beside it")
            members.append(member)
            where = f"{shard}: {member.name}"
            pairs.append((f"{shard.name}/{member.name}", _caption_of(*texts[sample], where), where))
    words = f"{Path(path).name} (WebDataset, {len(shards)} shards): {{images}} images, {{captions}} captions"
    return build_dataset(path, "all", words, pairs, Path(path), load_image=_ShardImages(members, upright))


def _member_text(archive: tarfile.TarFile, info: tarfile.TarInfo, shard: Path) -> str:
    if info.size > (most := min(size_limit("caption"), 1 << 20)):
        raise UserError(f"{shard}: {info.name} is a text of {info.size:,} bytes (limit {most:,})")
    file = archive.extractfile(info)
    assert file is not None  # only regular files come here
    try:
        return file.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise not_utf8(shard / info.name, error) from error


def _caption_of(text: str, suffix: str, where: str) -> object:
    if suffix == ".txt":
        return text
    content = parse_json(text, f"{where}, its .json")
    if not isinstance(content, dict):
        raise UserError(f"{where}: its .json is no object")
    return content.get(column("", CAPTION_COLUMNS, content, where, "caption"))
