"""Scene graphs of the second world: those of `clipbias.scenes.world` with fewer things."""

from __future__ import annotations

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

WORLD_VERSION = "scenes-2"
SPLITS = {"train": 40_000, "validation": 1_000, "test": 1_000, "short": 1_000}
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

    Raises:
        IndexError: the split has no such scene.
        KeyError: no such split.
    """
    if not 0 <= index < SPLITS[split]:
        raise IndexError(f"split {split!r} holds scenes 0 to {SPLITS[split] - 1}, not {index}")
    draw = Stream("scene", split, index)
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
