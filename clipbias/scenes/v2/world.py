"""Scene graphs of the second world: those of `clipbias.scenes.world`, with near-duplicates in the test split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

from clipbias.scenes import world as first
from clipbias.scenes.world import (
    COLOURS,
    COLUMNS,
    FRAMES,
    GROUND_COLOURS,
    GROUND_TEXTURES,
    ROWS,
    SHAPES,
    SKY_COLOURS,
    SKY_STATES,
    TEXTURES,
    WEATHERS,
    Scene,
    Thing,
)

T = TypeVar("T")

WORLD_VERSION = "scenes-2"
SPLITS = {"train": 40_000, "validation": 1_000, "test": 1_000, "short": 1_000}
FAMILY = 4
"""Scenes of the split "test" that differ in one or two facts stand together, so many at a time."""
CELLS = tuple((row, column) for row in range(len(ROWS)) for column in range(len(COLUMNS)))
SIZES = ("small", "medium")  # of all things but the main one, which is large


class Stream(first.Stream):
    """Choices from a stream of this world's own."""

    def __init__(self, *key: object) -> None:
        super().__init__(WORLD_VERSION, *key)

    def uniform(self) -> float:
        """A number in ``[0, 1)``."""
        return self._random()


def sample_scene(split: str, index: int) -> Scene:
    """The scene ``index`` of ``split``; the same everywhere and always.

    Scenes are drawn independently, but for the split "test": there every `FAMILY` scenes are one such scene and
    others that differ from it in one or two facts, and all differ from each other. Whoever reads only some of a
    caption cannot tell them apart.

    Raises:
        IndexError: the split has no such scene.
        KeyError: no such split.
    """
    if not 0 <= index < SPLITS[split]:
        raise IndexError(f"split {split!r} holds scenes 0 to {SPLITS[split] - 1}, not {index}")
    if split != "test":
        return _draw(split, index, index)
    number, member = divmod(index, FAMILY)
    head = _draw(split, number, number * FAMILY)
    if not member:
        return head
    known = [sample_scene(split, number * FAMILY + other).facts() for other in range(member)]
    draw = Stream("relative", split, index)
    while True:
        scene = _varied(head, draw)
        if draw.chance(0.5):
            scene = _varied(scene, draw)
        if scene.facts() not in known:
            return replace(scene, index=index)


def _draw(split: str, number: int, index: int) -> Scene:
    draw = Stream("scene", split, number)
    cells = draw.shuffled(CELLS)
    things = [Thing(draw.pick(SHAPES), draw.pick(COLOURS), "large", draw.pick(TEXTURES), *cells[0])]
    for cell in cells[1 : 2 + draw.below(2)]:
        things.append(Thing(draw.pick(SHAPES), draw.pick(COLOURS), draw.pick(SIZES), "plain", *cell))
    return Scene(
        split=split,
        index=index,
        things=tuple(things),
        sky_colour=draw.pick(SKY_COLOURS),
        sky_state=draw.pick(SKY_STATES),
        weather=draw.pick(WEATHERS),
        ground_colour=draw.pick(GROUND_COLOURS),
        ground_texture=draw.pick(GROUND_TEXTURES),
        frame=draw.pick(FRAMES[1:]) if draw.chance(0.7) else "none",
    )


def _varied(scene: Scene, draw: Stream) -> Scene:
    """The scene with one fact changed; every fact is as likely as any other."""

    def other(options: Sequence[T], now: T) -> T:
        return draw.pick([o for o in options if o != now])

    whole: dict[str, Sequence[str]] = {
        "sky_colour": SKY_COLOURS, "sky_state": SKY_STATES, "weather": WEATHERS,
        "ground_colour": GROUND_COLOURS, "ground_texture": GROUND_TEXTURES, "frame": FRAMES,
    }  # fmt: skip
    facts: list[tuple[int | None, str]] = [(None, name) for name in whole]
    for which in range(len(scene.things)):
        facts += [(which, name) for name in ("shape", "colour", "place", "size" if which else "texture")]
    number, name = draw.pick(facts)
    if number is None:
        changed_whole: dict[str, Any] = {name: other(whole[name], getattr(scene, name))}
        return replace(scene, **changed_whole)
    thing = scene.things[number]
    if name == "place":
        taken = {(t.row, t.column) for t in scene.things}
        row, column = draw.pick([cell for cell in CELLS if cell not in taken])
        changed = replace(thing, row=row, column=column)
    else:
        options = {"shape": SHAPES, "colour": COLOURS, "size": SIZES, "texture": TEXTURES}[name]
        one: dict[str, Any] = {name: other(options, getattr(thing, name))}
        changed = replace(thing, **one)
    return replace(scene, things=(*scene.things[:number], changed, *scene.things[number + 1 :]))
