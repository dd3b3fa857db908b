"""Urban1k: ``caption/N.txt`` and ``image/N.jpg``, N = 1..1000."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from clipbias.data.build import build_dataset
from clipbias.data.dataset import RetrievalDataset
from clipbias.data.images import inside
from clipbias.data.roots import data_root, first_existing
from clipbias.data.spec import DatasetSpec
from clipbias.errors import UserError
from clipbias.gate import read_text


def load_urban1k(
    root: object = None,
    split: str | None = None,
    first_line: bool = False,
    upright: bool = True,
    follow_links: bool = False,
) -> RetrievalDataset:
    """All 1,000 pairs, in the order of their numbers.

    Args:
        root: the folder that holds ``caption`` and ``image``, or the one above it.
        split: only "test".
        first_line: read only the first line of each caption, as the public script does; it leaves caption
            592 empty, since that file starts with a blank line.
        upright: apply the EXIF orientation.
        follow_links: allow links that lead out of the folder.

    Raises:
        UserError: no folder, another split, a file that is not UTF-8.
    """
    if split not in (None, "test"):
        raise UserError(f"urban1k has no split {split!r}; only test")
    folder = first_existing(
        data_root("urban1k", root), ("caption", "Urban1k/caption"), "the folder of the captions"
    ).parent
    files = sorted((f for f in (folder / "caption").glob("*.txt") if f.stem.isdecimal()), key=lambda f: int(f.stem))

    def pairs() -> Iterator[tuple[object, object, str]]:
        for file in files:
            text = _regular(file, folder, follow_links)
            yield f"image/{file.stem}.jpg", text.split("\n", 1)[0] if first_line else text, str(file)

    what = "the first line of each file" if first_line else "whole files"
    return build_dataset(
        "urban1k",
        "test",
        f"Urban1k: {{images}} images, {{captions}} captions ({what})",
        pairs(),
        folder,
        upright=upright,
        follow_links=follow_links,
    )


def _regular(file: Path, folder: Path, follow_links: bool) -> str:
    return read_text(inside(folder, str(file.relative_to(folder)), follow_links), "caption")


SPEC = DatasetSpec(
    load_urban1k,
    title="Urban1k: street scenes with long machine-written captions",
    licence="CC BY-NC 4.0; images from Visual Genome",
    homepage="https://huggingface.co/datasets/BeichenZhang/Urban1k",
    default_split="test",
    counts={"test": (1_000, 1_000)},
    layout="caption/1.txt ...\nimage/1.jpg ...",
)
SPECS = {"urban1k": SPEC}
