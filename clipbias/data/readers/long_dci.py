"""Long-DCI: the extra captions of Densely Captioned Images, empty ones dropped, sorted by file."""

from __future__ import annotations

from clipbias.data.build import build_dataset
from clipbias.data.dataset import RetrievalDataset
from clipbias.data.readers.dci import SPEC as DCI
from clipbias.data.readers.dci import dci_folder, read_entries
from clipbias.data.spec import DatasetSpec


def load_long_dci(
    root: object = None, split: str | None = None, upright: bool = True, follow_links: bool = False
) -> RetrievalDataset:
    """All images whose extra caption is not empty (7,602); ``root`` is DCI's.

    Raises:
        UserError: as `load_dci`.
    """
    folder = dci_folder(root, "long-dci")
    split = split or "all"
    return build_dataset(
        "long-dci",
        split,
        f"Long-DCI, split {split}: {{images}} images, {{captions}} extra captions, empty ones dropped",
        (
            (f"photos/{e.image}", e.extra, f"{folder}/annotations/{e.file}")
            for e in read_entries(folder, split, follow_links)
            if e.extra.strip()
        ),
        folder,
        upright=upright,
        follow_links=follow_links,
    )


SPEC = DatasetSpec(
    load_long_dci,
    title="Long-DCI: the extra captions of DCI",
    licence=DCI.licence,
    homepage=DCI.homepage,
    default_split="all",
    family="DCI",
    counts={"all": (7_602, 7_602)},
    layout=DCI.layout,
)
SPECS = {"long-dci": SPEC}
