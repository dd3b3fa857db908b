"""DCI as FG-CLIP and FG-CLIP 2 read it: the extra caption alone, of every annotation file, empty ones too."""

from __future__ import annotations

from clipbias.data.dataset import RetrievalDataset
from clipbias.data.readers.dci import SPEC as DCI
from clipbias.data.readers.dci import dci_dataset, dci_folder, read_entries
from clipbias.data.spec import DatasetSpec
from clipbias.errors import UserError


def load(
    root: object = None, split: str | None = None, upright: bool = True, follow_links: bool = False
) -> RetrievalDataset:
    """Every annotation file; ``root`` is DCI's. FG-CLIP 2 lower-cases captions, which is the model's reader's part.

    Raises:
        UserError: as `load_dci`.
    """
    if split not in (None, "all"):
        raise UserError(f"dci-fgclip has no split {split!r}; only all")
    folder = dci_folder(root, "dci-fgclip")
    entries = read_entries(folder, "all", follow_links)
    words = "extra caption alone, empty ones too"
    return dci_dataset("dci-fgclip", "all", words, lambda e: e.extra, folder, entries, upright, follow_links)


SPEC = DatasetSpec(
    load,
    title="DCI as FG-CLIP reads it: the extra captions, empty ones too",
    licence=DCI.licence,
    homepage="https://github.com/360CVGroup/FG-CLIP",
    default_split="all",
    family="DCI",
    counts={"all": (7_805, 7_805)},
    layout=DCI.layout,
)
SPECS = {"dci-fgclip": SPEC}
