"""ImageInWords as LoTLIP and FLAIR read it: its three parts together, 612 captions, sentences rejoined."""

from __future__ import annotations

from collections.abc import Iterator

from clipbias.data.build import build_dataset
from clipbias.data.dataset import RetrievalDataset
from clipbias.data.jsonfiles import field, read_json_lines
from clipbias.data.lists import Entry, rejoined
from clipbias.data.readers.iiw import SPEC as IIW
from clipbias.data.roots import data_root, first_existing
from clipbias.data.spec import DatasetSpec
from clipbias.errors import UserError

_PARTS = {"DOCCI_Test": "docci", "IIW-400": "docci_aar", "DCI_Test": "dci"}


def load(
    root: object = None, split: str | None = None, upright: bool = True, follow_links: bool = False
) -> RetrievalDataset:
    """All three parts; ``root`` holds their images in ``docci``, ``docci_aar`` and ``dci``, as LoTLIP lays them out.

    Raises:
        UserError: no folder, a file is missing or broken, or another split is named.
    """
    if split not in (None, "all"):
        raise UserError(f"iiw-lotlip has no split {split!r}; only all")
    folder = data_root("iiw-lotlip", root, alike=("iiw-fg", "iiw"))

    def pairs() -> Iterator[Entry]:
        for part, place in _PARTS.items():
            file = first_existing(folder, (f"datasets/{part}/data.jsonl", f"{part}/data.jsonl"), f"captions of {part}")
            for entry, where in read_json_lines(file):
                name = str(field(entry, "image" if "image" in entry else "image/key", where))
                name = name if name.endswith(".jpg") else f"{name}.jpg"
                yield f"{place}/{name}", rejoined(field(entry, "IIW", where), where), where

    protocol = "ImageInWords, all three parts (LoTLIP, sentences rejoined): {images} images, {captions} captions"
    return build_dataset("iiw-lotlip", "all", protocol, pairs(), folder, upright=upright, follow_links=follow_links)


SPEC = DatasetSpec(
    load,
    title="ImageInWords as LoTLIP and FLAIR read it: all 612, sentences rejoined",
    licence="CC BY 4.0; DCI's photos from SA-1B under its licence",
    homepage="https://github.com/wuw2019/LoTLIP",
    default_split="all",
    family="IIW",
    counts={"all": (612, 612)},
    layout=f"{IIW.layout.splitlines()[0]}\ndocci/test_00731.jpg ..., docci_aar/aar_test_*.jpg, dci/sa_*.jpg",
)
SPECS = {"iiw-lotlip": SPEC}
