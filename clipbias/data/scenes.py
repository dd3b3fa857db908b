"""The built-in data sets `scenes` and `scenes-2` as `RetrievalDataset`s."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from clipbias import scenes as first
from clipbias.data.dataset import RetrievalDataset
from clipbias.data.ondemand import OnDemand
from clipbias.data.spec import DatasetSpec
from clipbias.errors import UserError
from clipbias.files import content_key
from clipbias.scenes import Scene, Sentence, render, v2
from clipbias.scenes.world import GROUND_COLOURS, Stream

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class World:
    """What makes the scenes of a data set and their captions."""

    name: str
    version: str
    splits: Mapping[str, int]
    sample_scene: Callable[[str, int], Scene]
    long_caption: Callable[[Scene], tuple[Sentence, ...]]
    short_caption: Callable[[Scene, int], str]


FIRST = World("scenes", first.WORLD_VERSION, first.SPLITS, first.sample_scene, first.long_caption, first.short_caption)
SECOND = World("scenes-2", v2.WORLD_VERSION, v2.SPLITS, v2.sample_scene, v2.long_caption, v2.short_caption)
WORLDS = {world.name: world for world in (FIRST, SECOND)}


def world_of(dataset: RetrievalDataset) -> World | None:
    """The world that a data set, or the first images of it, shows: the facts behind its images are known.

    None where there is none, or its captions are not the world's long ones.
    """
    world = WORLDS.get(re.sub(r"\[:\d+\]$", "", dataset.name))
    return world if world and dataset.split in world.splits and dataset.sentences is not None else None


def scenes_of(dataset: RetrievalDataset, world: World) -> list[Scene]:
    """The scene that each image of a data set shows, which is of `world_of` it.

    Names end in the scene's number ("test_00012"): a part of the data has not all of them.
    """
    return [world.sample_scene(dataset.split, int(name.rpartition("_")[2])) for name in dataset.image_names]


@dataclass(frozen=True)
class _Pictures:
    """``load_image`` of the scenes."""

    world: World
    split: str

    def __call__(self, index: int) -> Image.Image:
        return render(self.world.sample_scene(self.split, index))

    def key(self, index: int) -> bytes:
        """A picture is known by its place: the same world always draws the same."""
        return content_key(self.world.version.encode(), self.split.encode(), str(index).encode())


FACT = "ground.colour"
"""The fact that is told wrong: of all scenes' captions one sentence alone states it."""


class _ToldWrong(OnDemand["tuple[int, str] | None"]):
    """The sentence that states the ground's colour, with another colour; made on demand."""

    def __init__(self, world: World, split: str) -> None:
        self.world, self.split = world, split

    def __len__(self) -> int:
        return self.world.splits[self.split]

    def item(self, place: int) -> tuple[int, str]:
        """See `OnDemand`."""
        scene = self.world.sample_scene(self.split, place)
        colour = scene.ground_colour
        told = [(k, s.text) for k, s in enumerate(self.world.long_caption(scene)) if FACT in s.facts]
        ((sentence, text),) = told
        other = Stream("needle", self.split, place).pick([c for c in GROUND_COLOURS if c != colour])
        return sentence, re.sub(rf"\b{colour}\b", other, text, count=1)


class _ShortCaptions(OnDemand[str]):
    """Short captions on demand; ``variant`` gives another draw of all of them."""

    def __init__(self, world: World, split: str, variant: int = 0) -> None:
        self.world, self.split, self.variant = world, split, variant

    def __len__(self) -> int:
        return self.world.splits[self.split]

    def item(self, place: int) -> str:
        """See `OnDemand`."""
        return self.world.short_caption(self.world.sample_scene(self.split, place), self.variant)


def load_scenes(root: object = None, split: str | None = None, variant: int = 0) -> RetrievalDataset:
    """The built-in scenes; nothing is read from disk, ``root`` must be absent.

    Args:
        root: not used by this data set.
        split: train, validation or test (the default).
        variant: which draw of the short captions.

    Raises:
        UserError: a root was given, or there is no such split.
    """
    return _load(FIRST, root, split, variant)


def load_second(root: object = None, split: str | None = None, variant: int = 0) -> RetrievalDataset:
    """The second world of scenes; as `load_scenes`, with the further split "short".

    Its captions are the short ones, a benchmark of their own; the other splits have long captions.
    """
    data = _load(SECOND, root, split, variant)
    if data.split != "short":
        return data
    short = list(data.short_captions or ())
    protocol = f"{SECOND.version}, split short: {len(short):,} generated scenes at 48 px, one short caption each"
    return replace(data, captions=short, sentences=None, told_wrong=None, protocol=protocol)


@lru_cache(maxsize=4)
def _captions(
    sample_scene: Callable[[str, int], Scene],
    long_caption: Callable[[Scene], tuple[Sentence, ...]],
    split: str,
    count: int,
) -> tuple[tuple[str, ...], ...]:
    """The sentences of a split's captions, written once a process: they never change, and are asked for often."""
    return tuple(tuple(s.text for s in long_caption(sample_scene(split, i))) for i in range(count))


def _load(world: World, root: object, split: str | None, variant: int) -> RetrievalDataset:
    split, variant = split or "test", int(variant)
    if root is not None:
        raise UserError(f"scenes are made by the program and have no folder; leave out the root {str(root)!r}")
    if split not in world.splits:
        raise UserError(f"{world.name} has no split {split!r}; choose one of {', '.join(world.splits)}")
    count = world.splits[split]

    sentences = list(_captions(world.sample_scene, world.long_caption, split, count))
    return RetrievalDataset(
        name=world.name,
        split=split,
        protocol=f"{world.version}, split {split}: {count:,} generated scenes at 48 px, one long caption each",
        image_names=[f"{split}_{i:05d}" for i in range(count)],
        load_image=_Pictures(world, split),
        captions=[" ".join(s) for s in sentences],
        caption_image=np.arange(count),
        sentences=sentences,
        short_captions=_ShortCaptions(world, split, variant),
        told_wrong=_ToldWrong(world, split),
    )


SPEC = DatasetSpec(
    load_scenes,
    title="the built-in scenes: generated pictures, each with a summary and 4 to 8 details",
    licence="as clipbias",
    default_split="test",
    counts={split: (count, count) for split, count in first.SPLITS.items()},
    needs_root=False,
)

SECOND_SPEC = DatasetSpec(
    load_second,
    title="the second world of scenes: a summary that stands again among 4 to 6 details",
    licence="as clipbias",
    default_split="test",
    counts={split: (count, count) for split, count in v2.SPLITS.items()},
    needs_root=False,
)
