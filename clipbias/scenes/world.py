"""Scene graphs: what stands where, drawn from a seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

WORLD_VERSION = "scenes-1"
SPLITS = {"train": 40_000, "validation": 1_000, "test": 1_000}

SHAPES = ("circle", "square", "triangle", "star", "ring", "cross", "heart", "diamond")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "white", "black")
TEXTURES = ("plain", "striped", "spotted")
SKY_COLOURS = ("blue", "pink", "orange", "purple", "grey", "yellow")
SKY_STATES = ("clear", "sun", "moon", "clouds", "stars")
WEATHERS = ("dry", "rain", "snow")
GROUND_COLOURS = ("brown", "green", "grey", "tan", "white", "pink")
GROUND_TEXTURES = ("plain", "striped", "dotted", "checked")
FRAMES = ("none", "red", "green", "blue", "white", "black", "yellow")
ROWS = ("back", "front")
COLUMNS = ("left", "middle", "right")


class Stream:
    """Choices from a named random stream; uses only ``random()``, stable across Python versions."""

    def __init__(self, *key: object) -> None:
        self._random = random.Random("/".join([WORLD_VERSION, *map(str, key)])).random

    def below(self, n: int) -> int:
        """A uniform integer in ``[0, n)``."""
        return int(self._random() * n)

    def pick(self, options: Sequence[T]) -> T:
        return options[self.below(len(options))]

    def chance(self, probability: float) -> bool:
        return self._random() < probability

    def shuffled(self, items: Sequence[T]) -> list[T]:
        out = list(items)
        for i in range(len(out) - 1, 0, -1):
            j = self.below(i + 1)
            out[i], out[j] = out[j], out[i]
        return out


@dataclass(frozen=True)
class Thing:
    """One object: ``row`` 0 is the back, 1 the front; ``column`` 0, 1, 2 is left, middle, right."""

    shape: str
    colour: str
    size: str
    texture: str
    row: int
    column: int


@dataclass(frozen=True)
class Scene:
    """The ground truth of one image. ``things[0]`` is the salient one, the only large one."""

    split: str
    index: int
    things: tuple[Thing, ...]
    sky_colour: str
    sky_state: str
    weather: str
    ground_colour: str
    ground_texture: str
    frame: str

    @property
    def main(self) -> Thing:
        return self.things[0]

    def facts(self) -> dict[str, str]:
        """Every fact by its name, as the sentences of a caption name them."""
        out = {
            "sky.colour": self.sky_colour,
            "sky.state": self.sky_state,
            "weather": self.weather,
            "ground.colour": self.ground_colour,
            "ground.texture": self.ground_texture,
            "frame": self.frame,
        }
        for i, thing in enumerate(self.things):
            out[f"thing{i}.shape"] = thing.shape
            out[f"thing{i}.colour"] = thing.colour
            out[f"thing{i}.size"] = thing.size
            out[f"thing{i}.place"] = f"{ROWS[thing.row]} {COLUMNS[thing.column]}"
        out["thing0.texture"] = self.main.texture
        return out


def sample_scene(split: str, index: int) -> Scene:
    """The scene ``index`` of ``split``; the same everywhere and always.

    Raises:
        IndexError: the split has no such scene.
        KeyError: no such split.
    """
    if not 0 <= index < SPLITS[split]:
        raise IndexError(f"split {split!r} holds scenes 0 to {SPLITS[split] - 1}, not {index}")
    draw = Stream("scene", split, index)
    cells = draw.shuffled([(row, column) for row in range(2) for column in range(3)])
    things = [Thing(draw.pick(SHAPES), draw.pick(COLOURS), "large", draw.pick(TEXTURES), *cells[0])]
    for cell in cells[1 : 2 + draw.below(4)]:
        size = draw.pick(("small", "medium"))
        things.append(Thing(draw.pick(SHAPES), draw.pick(COLOURS), size, "plain", *cell))
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
