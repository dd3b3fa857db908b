"""The built-in data set `scenes` as a `RetrievalDataset`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

import numpy as np

from clipbias.data.dataset import RetrievalDataset
from clipbias.data.spec import DatasetSpec
from clipbias.errors import UserError
from clipbias.files import content_key
from clipbias.scenes import SPLITS, WORLD_VERSION, long_caption, render, sample_scene, short_caption

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class _Pictures:
    """``load_image`` of the scenes."""

    split: str

    def __call__(self, index: int) -> Image.Image:
        return render(sample_scene(self.split, index))

    def key(self, index: int) -> bytes:
        """A picture is known by its place: the same world always draws the same."""
        return content_key(WORLD_VERSION.encode(), self.split.encode(), str(index).encode())


class _ShortCaptions(Sequence[str]):
    """Short captions on demand; ``variant`` gives another draw of all of them."""

    def __init__(self, split: str, variant: int = 0) -> None:
        self.split, self.variant = split, variant

    def __len__(self) -> int:
        return SPLITS[self.split]

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if index >= len(self):
            raise IndexError(index)
        return short_caption(sample_scene(self.split, index), self.variant)


def load_scenes(root: object = None, split: str | None = None, variant: int = 0) -> RetrievalDataset:
    """The built-in scenes; nothing is read from disk, ``root`` must be absent.

    Args:
        root: not used by this data set.
        split: train, validation or test (the default).
        variant: which draw of the short captions.

    Raises:
        UserError: a root was given, or there is no such split.
    """
    split, variant = split or "test", int(variant)
    if root is not None:
        raise UserError(f"scenes are made by the program and have no folder; leave out the root {str(root)!r}")
    if split not in SPLITS:
        raise UserError(f"scenes has no split {split!r}; choose one of {', '.join(SPLITS)}")
    count = SPLITS[split]

    sentences = [tuple(s.text for s in long_caption(sample_scene(split, i))) for i in range(count)]
    return RetrievalDataset(
        name="scenes",
        split=split,
        protocol=f"{WORLD_VERSION}, split {split}: {count:,} generated scenes at 48 px, one long caption each",
        image_names=[f"{split}_{i:05d}" for i in range(count)],
        load_image=_Pictures(split),
        captions=[" ".join(s) for s in sentences],
        caption_image=np.arange(count),
        sentences=sentences,
        short_captions=_ShortCaptions(split, variant),
    )


SPEC = DatasetSpec(
    load_scenes,
    title="the built-in scenes: generated pictures, each with a summary and 4 to 8 details",
    licence="as clipbias",
    default_split="test",
    counts={split: (count, count) for split, count in SPLITS.items()},
    needs_root=False,
)
