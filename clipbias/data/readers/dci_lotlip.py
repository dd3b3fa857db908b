"""DCI as LoTLIP and FLAIR read it: short caption, a line break, extra caption, cut and rejoined by their rule."""

from __future__ import annotations

from clipbias.data.dataset import RetrievalDataset
from clipbias.data.lists import rejoined
from clipbias.data.readers.dci import SPEC as DCI
from clipbias.data.readers.dci import dci_dataset, dci_folder, read_entries
from clipbias.data.spec import DatasetSpec
from clipbias.errors import UserError


def load(
    root: object = None, split: str | None = None, upright: bool = True, follow_links: bool = False
) -> RetrievalDataset:
    """The files that ``splits.json`` names, all three splits; ``root`` is DCI's.

    Raises:
        UserError: as `load_dci`.
    """
    if split not in (None, "all"):
        raise UserError(f"dci-lotlip has no split {split!r}; only all")
    folder = dci_folder(root, "dci-lotlip")
    entries = (e for part in ("train", "valid", "test") for e in read_entries(folder, part, follow_links))
    words = "short caption, line break, extra caption; cut at line breaks and full stops, rejoined by '. '"
    return dci_dataset(
        "dci-lotlip", "all", words, lambda e: rejoined(f"{e.short}\n{e.extra}"), folder, entries, upright, follow_links
    )


SPEC = DatasetSpec(
    load,
    title="DCI as LoTLIP and FLAIR read it: short and extra caption, sentences rejoined",
    licence=DCI.licence,
    homepage="https://github.com/wuw2019/LoTLIP",
    default_split="all",
    family="DCI",
    counts={"all": (7_805, 7_805)},
    layout=DCI.layout,
)
SPECS = {"dci-lotlip": SPEC}
