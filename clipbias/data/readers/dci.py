"""Densely Captioned Images: ``densely_captioned_images/{annotations,photos,splits.json}``.

`dci` is DeBias-CLIP's protocol: short and extra caption joined without a separator, all 7,805. The others that
papers use are data sets of their own: `dci-lotlip`, `dci-fgclip`, `dci-goal`, `dci-cn`, `long-dci`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from clipbias.data.build import build_dataset, clean_caption
from clipbias.data.dataset import RetrievalDataset
from clipbias.data.images import inside
from clipbias.data.jsonfiles import field
from clipbias.data.roots import data_root, first_existing
from clipbias.data.spec import DatasetSpec
from clipbias.errors import UserError
from clipbias.formats import read_json


class Entry(NamedTuple):
    """One annotation file's name, image name and its two captions."""

    file: str
    image: str
    short: str
    extra: str


def dci_folder(root: object, name: str) -> Path:
    """The folder that holds ``annotations`` and ``photos``: the root, or a folder below it.

    Raises:
        UserError: it is not there.
    """
    return first_existing(
        data_root(name, root, alike=("dci", "long-dci")),
        ("annotations", "densely_captioned_images/annotations"),
        "the folder of the annotations",
    ).parent


def read_entries(folder: Path, split: str, follow_links: bool) -> Iterator[Entry]:
    """The annotations of a split ("all", train, valid, test), sorted by file name.

    A published annotation file is mostly masks, so what is needed of all of them is indexed once.

    Raises:
        UserError: a broken file, or no such split.
    """
    from clipbias.data.index import IndexColumn, index_path, open_index, write_index

    files = sorted((folder / "annotations").glob("*.json"))
    if not files:
        raise UserError(f"{folder / 'annotations'}: no annotation files")
    wanted = None if split == "all" else _split_files(folder, split)
    path = index_path("dci", files)
    found = open_index(path)
    if found is None or found[0] != 2 * len(files):
        write_index(path, _index_rows(folder, files, follow_links))
    images = IndexColumn(path, "image", 0, 2 * len(files))
    captions = iter(IndexColumn(path, "caption", 0, 2 * len(files)))
    for file, image, short, extra in zip(files, images[::2], captions, captions, strict=True):
        if wanted is None or file.name in wanted:
            yield Entry(file.name, image, short, extra)
    missing = sorted((wanted or set()) - {file.name for file in files})
    if missing:
        raise UserError(
            f"{folder / 'annotations' / missing[0]}: missing, and {len(missing) - 1:,} more of split {split}"
        )


def _index_rows(folder: Path, files: list[Path], follow_links: bool) -> Iterator[tuple[str, str]]:
    """Two index rows a file: its short and its extra caption."""
    for file in files:
        content = read_json(inside(folder, f"annotations/{file.name}", follow_links))
        image = str(field(content, "image", str(file)))
        yield image, clean_edges(field(content, "short_caption", str(file)), str(file))
        yield image, clean_edges(field(content, "extra_caption", str(file)), str(file))


def clean_edges(text: object, where: str) -> str:
    """The caption checked but with its white space, which the joined protocol keeps."""
    clean_caption(text, where)
    return str(text)


def _split_files(folder: Path, split: str) -> set[str]:
    splits = read_json(folder / "splits.json")
    if not isinstance(splits, dict) or not isinstance(splits.get(split), list):
        known = ", ".join(splits) if isinstance(splits, dict) else "none"
        raise UserError(f"{folder / 'splits.json'}: no split {split!r}; it has {known}, and there is all")
    return {str(name) for name in splits[split]}


def dci_dataset(
    name: str,
    split: str,
    words: str,
    caption: Callable[[Entry], str],
    folder: Path,
    entries: Iterable[Entry],
    upright: bool,
    follow_links: bool,
) -> RetrievalDataset:
    """A protocol on DCI's own annotations: what ``caption`` makes of each entry; ``words`` say it."""
    return build_dataset(
        name,
        split,
        f"DCI, split {split}: {{images}} images, {{captions}} captions ({words})",
        ((f"photos/{e.image}", caption(e), f"{folder}/annotations/{e.file}") for e in entries),
        folder,
        upright=upright,
        follow_links=follow_links,
    )


def load_dci(
    root: object = None, split: str | None = None, upright: bool = True, follow_links: bool = False
) -> RetrievalDataset:
    """All 7,805 images with the short and the extra caption joined.

    Args:
        root: the folder ``densely_captioned_images`` or the one above it.
        split: all (default), train, valid or test.
        upright: apply the EXIF orientation.
        follow_links: allow links that lead out of the folder.

    Raises:
        UserError: no folder, a broken annotation file, or no such split.
    """
    folder, split = dci_folder(root, "dci"), split or "all"
    words = "short and extra caption without a separator"
    entries = read_entries(folder, split, follow_links)
    return dci_dataset("dci", split, words, lambda e: e.short + e.extra, folder, entries, upright, follow_links)


SPEC = DatasetSpec(
    load_dci,
    title="Densely Captioned Images: short and extra caption joined",
    licence="CC BY-NC 4.0 (annotations); photos from SA-1B under its licence",
    homepage="https://github.com/facebookresearch/DCI",
    default_split="all",
    family="DCI",
    counts={"all": (7_805, 7_805), "train": (7_599, 7_599), "valid": (98, 98), "test": (108, 108)},
    layout="densely_captioned_images/annotations/*.json\n"
    "densely_captioned_images/photos/sa_*.jpg\ndensely_captioned_images/splits.json",
)
SPECS = {"dci": SPEC}


def whole_dci(
    name: str, words: str, caption: Callable[[Entry], str], parts: tuple[str, ...] = ("all",), **record: Any
) -> DatasetSpec:
    """Another protocol on all of DCI.

    Args:
        name: the registered name.
        words: say of the protocol what it makes of an entry.
        caption: makes it.
        parts: the splits that are read, one behind the other.
        record: further fields of `DatasetSpec`.
    """

    def load(
        root: object = None, split: str | None = None, upright: bool = True, follow_links: bool = False
    ) -> RetrievalDataset:
        if split not in (None, "all"):
            raise UserError(f"{name} has no split {split!r}; only all")
        folder = dci_folder(root, name)
        entries = (entry for part in parts for entry in read_entries(folder, part, follow_links))
        return dci_dataset(name, "all", words, caption, folder, entries, upright, follow_links)

    counts = {"all": (7_805, 7_805)}
    return DatasetSpec(
        load, default_split="all", licence=SPEC.licence, layout=SPEC.layout, family="DCI", counts=counts, **record
    )
