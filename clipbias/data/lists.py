"""Lists of images and captions as papers publish them: what their protocols share, so that each is one small reader.

A paper's evaluation file names the images of another data set and gives its own captions, in one of a few forms. Here
are the forms, and `listed`, which makes a registered data set of one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from clipbias.data.build import build_dataset
from clipbias.data.dataset import RetrievalDataset
from clipbias.data.jsonfiles import field, read_json_lines, stream_json_array, text_lines
from clipbias.data.roots import configured_root, data_root, first_existing
from clipbias.data.spec import DatasetSpec
from clipbias.errors import UserError
from clipbias.formats import read_json

Entry = tuple[object, object, str]
"""Image name, caption, place for messages."""
_CUTS = re.compile(r"\n|</s>|[.]")


def pieces(text: str) -> list[str]:
    """A caption cut at line breaks and full stops, as LoTLIP and FLAIR cut it: "2.5 m" becomes two pieces."""
    return [piece.strip() for piece in _CUTS.split(text) if piece.strip()]


def rejoined(text: object, where: str = "caption") -> str:
    """The `pieces` joined by ". ", as LoTLIP and FLAIR feed captions to a model: the last full stop is gone.

    Raises:
        UserError: not a text.
    """
    if not isinstance(text, str):
        raise UserError(f"{where}: the caption is {type(text).__name__}, not text")
    return ". ".join(pieces(text))


def array(image: str, caption: str | tuple[str | int, ...]) -> Callable[[Path], Iterator[Entry]]:
    """Entries of a JSON array of objects; ``caption`` may be a path of keys."""
    path = (caption,) if isinstance(caption, str) else caption

    def entries(file: Path) -> Iterator[Entry]:
        for number, (entry, _) in enumerate(stream_json_array(file)):
            where = f"{file}, element {number:,}"
            text = entry
            for key in path:
                text = field(text, key, where)
            yield field(entry, image, where), text, where

    return entries


def annotated(file: Path) -> Iterator[Entry]:
    """Entries of a JSON object with a list "annotations" of {"image", "caption"} (FLAIR's files)."""
    rows = field(read_json(file), "annotations", str(file))
    for number, entry in enumerate(rows if isinstance(rows, list) else []):
        where = f"{file}, annotation {number:,}"
        yield field(entry, "image", where), field(entry, "caption", where), where


def lines(image: str, captions: str) -> Callable[[Path], Iterator[Entry]]:
    """Entries of a file of one JSON object a line, ``captions`` of which is a list of texts."""

    def entries(file: Path) -> Iterator[Entry]:
        for entry, where in read_json_lines(file):
            texts = field(entry, captions, where)
            if not isinstance(texts, list):
                raise UserError(f"{where}: {captions!r} is no list of captions")
            for text in texts:
                yield field(entry, image, where), text, where

    return entries


def tabbed(file: Path) -> Iterator[Entry]:
    """Entries of lines "image, tab, caption" (FG-CLIP 2's Chinese sets)."""
    for line, where in text_lines(file):
        name, tab, text = line.partition("\t")
        if not tab:
            raise UserError(f"{where}: expected an image's path, a tab and a caption")
        yield name, text, where


def image_root(name: str, folder: Path, images: str | None, places: Iterable[str], owner: str) -> tuple[Path, str]:
    """The folder that image names of a list start from, and which of ``places`` below it holds them.

    Args:
        name: the data set's, for messages.
        folder: the data set's own.
        images: the folder that the user named, or None.
        places: where images lie below it, e.g. "photos"; "" for names that are paths of their own.
        owner: the data set that the images belong to; its configured folder is looked in too.

    Raises:
        UserError: ``images`` is no folder.
    """
    chosen = Path(images).expanduser() if images is not None else None
    if chosen is not None and not chosen.is_dir():
        raise UserError(f"{name}: images={images!r} is no folder; name the folder of {owner}")
    wanted = tuple(places)
    owned = configured_root(owner)
    for base in [chosen] if chosen is not None else [folder, owned]:
        for place in wanted if base is not None else ():
            if base is not None and place and (base / place).is_dir():
                return base, place
    return chosen or folder, "" if "" in wanted else wanted[0]


def listed(
    name: str,
    *,
    files: tuple[str, ...],
    entries: Callable[[Path], Iterator[Entry]],
    protocol: str,
    owner: str,
    places: tuple[str, ...] = ("",),
    change: Callable[[object, str], object] = lambda text, where: text,
    most: int | None = None,
    split: str = "test",
    **record: Any,
) -> DatasetSpec:
    """A data set that is a published list of captions of another set's images.

    Args:
        name: the registered name.
        files: where the list may lie below the root.
        entries: its form, of those above.
        protocol: in words, with ``{images}`` and ``{captions}``.
        owner: the data set that the images belong to.
        places: folders below the root that may hold them, of which a name's last part is looked for; "": names are
            paths below the root as they stand.
        change: caption, place -> what the model reads.
        most: only so many entries.
        split: what the one split is called.
        record: further fields of `DatasetSpec`.
    """
    only = split

    def load(
        root: object = None,
        split: str | None = None,
        images: str | None = None,
        upright: bool = True,
        follow_links: bool = False,
    ) -> RetrievalDataset:
        if split not in (None, only):
            raise UserError(f"{name} has no split {split!r}; only {only}")
        folder = data_root(name, root, alike=(owner,))
        file = first_existing(folder, files, "the list of captions")
        base, place = image_root(name, folder, images, places, owner)

        def pairs() -> Iterator[Entry]:
            for image, text, where in islice(entries(file), most):
                called = f"{place}/{image.rpartition('/')[2]}" if place and isinstance(image, str) else image
                yield called, change(text, where), where

        return build_dataset(name, only, protocol, pairs(), base, upright=upright, follow_links=follow_links)

    return DatasetSpec(load, default_split=only, **record)
