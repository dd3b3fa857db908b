"""Densely Captioned Images: ``densely_captioned_images/{annotations,photos,splits.json}``.

Four published protocols cannot be compared; ``captions`` and the data set `long-dci` give all of them:

- joined: short and extra caption without a separator, all 7,805 (DeBias-CLIP);
- newline: short caption, a line break, extra caption, its sentences rejoined by one space (FLAIR, LoTLIP);
- extra: the extra caption alone, empty ones too (FG-CLIP);
- `long-dci`: the extra caption alone, empty ones dropped, sorted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from clipbias.data.build import build_dataset, clean_caption
from clipbias.data.dataset import RetrievalDataset
from clipbias.data.images import inside
from clipbias.data.jsonfiles import field, read_json
from clipbias.data.roots import data_root, first_existing
from clipbias.data.spec import DatasetSpec
from clipbias.errors import UserError

CAPTIONS = ("joined", "newline", "extra")


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


def load_dci(
    root: object = None,
    split: str | None = None,
    captions: str = "joined",
    upright: bool = True,
    follow_links: bool = False,
) -> RetrievalDataset:
    """All 7,805 images with the short and the extra caption joined, unless asked otherwise.

    Args:
        root: the folder ``densely_captioned_images`` or the one above it.
        split: all (default), train, valid or test.
        captions: joined, newline or extra; see the module.
        upright: apply the EXIF orientation.
        follow_links: allow links that lead out of the folder.

    Raises:
        UserError: no folder, a broken annotation file, no such split or kind of captions.
    """
    if captions not in CAPTIONS:
        raise UserError(f"dci: captions={captions!r} is not one of {', '.join(CAPTIONS)}")
    folder = dci_folder(root, "dci")
    split = split or "all"
    ways: dict[str, Callable[[Entry], str]] = {
        "joined": lambda entry: entry.short + entry.extra,
        "newline": lambda entry: _rejoined(f"{entry.short}\n{entry.extra}"),
        "extra": lambda entry: entry.extra,
    }
    joined = ways[captions]
    words = {
        "joined": "short and extra caption without a separator",
        "newline": "short and extra caption on two lines, sentences rejoined",
        "extra": "extra caption alone, empty ones too",
    }[captions]
    return build_dataset(
        "dci",
        split,
        f"DCI, split {split}: {{images}} images, {{captions}} captions ({words})",
        (
            (f"photos/{e.image}", joined(e), f"{folder}/annotations/{e.file}")
            for e in read_entries(folder, split, follow_links)
        ),
        folder,
        upright=upright,
        follow_links=follow_links,
    )


def _rejoined(text: str) -> str:
    from clipbias.data.sentences import split_sentences

    return " ".join(split_sentences(text))


SPEC = DatasetSpec(
    load_dci,
    title="Densely Captioned Images: short and extra caption joined",
    licence="CC BY-NC 4.0 (annotations); photos from SA-1B under its licence",
    homepage="https://github.com/facebookresearch/DCI",
    default_split="all",
    counts={"all": (7_805, 7_805), "train": (7_599, 7_599), "valid": (98, 98), "test": (108, 108)},
    layout="densely_captioned_images/annotations/*.json\n"
    "densely_captioned_images/photos/sa_*.jpg\ndensely_captioned_images/splits.json",
)
SPECS = {"dci": SPEC}
