"""ShareGPT4V-1k (Long-CLIP): the first 1,000 records of the training file, which Long-CLIP's training leaves out."""

from __future__ import annotations

from dataclasses import replace

from clipbias.data.dataset import RetrievalDataset
from clipbias.data.readers.sharegpt4v import HELD_OUT, load_sharegpt4v
from clipbias.data.readers.sharegpt4v import SPEC as WHOLE
from clipbias.data.roots import data_root
from clipbias.data.spec import DatasetSpec
from clipbias.errors import UserError


def load(
    root: object = None, split: str | None = None, upright: bool = True, follow_links: bool = True
) -> RetrievalDataset:
    """Rows 0 to 999 with their captions as written; ``root`` is sharegpt4v's.

    Raises:
        UserError: as `load_sharegpt4v`.
    """
    if split not in (None, "test"):
        raise UserError(f"sharegpt4v-1k has no split {split!r}; only test")
    folder = data_root("sharegpt4v-1k", root, alike=("sharegpt4v",))
    found = load_sharegpt4v(folder, "test", upright=upright, follow_links=follow_links)
    images, captions = len(found.image_names), len(found.captions)
    protocol = f"ShareGPT4V-1k, records 0 to {HELD_OUT - 1} (Long-CLIP): {images:,} images, {captions:,} captions"
    return replace(found, name="sharegpt4v-1k", protocol=protocol)


SPEC = DatasetSpec(
    load,
    title="ShareGPT4V-1k: the first 1,000 records (Long-CLIP)",
    licence=WHOLE.licence,
    homepage=WHOLE.homepage,
    default_split="test",
    family="ShareGPT4V",
    counts={"test": (1_000, 1_000)},
    layout=WHOLE.layout,
)
SPECS = {"sharegpt4v-1k": SPEC}
