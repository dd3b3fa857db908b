"""DOCCI: ``docci_descriptions.jsonlines`` and ``images/``; one description an image."""

from __future__ import annotations

from collections.abc import Iterator

from clipbias.data.build import build_dataset
from clipbias.data.dataset import RetrievalDataset
from clipbias.data.jsonfiles import field, read_json_lines
from clipbias.data.roots import data_root
from clipbias.data.spec import DatasetSpec
from clipbias.errors import UserError


def load_docci(
    root: object = None, split: str | None = None, upright: bool = True, follow_links: bool = False
) -> RetrievalDataset:
    """Split "test" (5,000 images) unless another is named: train, qual_dev, qual_test.

    Raises:
        UserError: no folder, no annotation file, a broken line, or no such split.
    """
    folder = data_root("docci", root)
    split = split or "test"
    file = folder / "docci_descriptions.jsonlines"
    seen: set[str] = set()

    def pairs() -> Iterator[tuple[object, object, str]]:
        for entry, where in read_json_lines(file):
            found = str(field(entry, "split", where))
            seen.add(found)
            if found == split:
                yield f"images/{field(entry, 'image_file', where)}", field(entry, "description", where), where

    try:
        return build_dataset(
            "docci",
            split,
            f"DOCCI, split {split}: {{images}} images, {{captions}} descriptions",
            pairs(),
            folder,
            upright=upright,
            follow_links=follow_links,
        )
    except UserError:
        if seen and split not in seen:
            raise UserError(f"{file}: no split {split!r}; it has {', '.join(sorted(seen))}") from None
        raise


SPEC = DatasetSpec(
    load_docci,
    title="DOCCI: long human descriptions of contrast-rich photos",
    licence="CC BY 4.0",
    homepage="https://google.github.io/docci/",
    default_split="test",
    family="DOCCI",
    counts={"test": (5_000, 5_000), "train": (9_647, 9_647), "qual_test": (100, 100), "qual_dev": (100, 100)},
    layout="docci_descriptions.jsonlines\nimages/test_00000.jpg ...",
)
SPECS = {"docci": SPEC}
