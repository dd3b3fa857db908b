"""The built-in scenes: seeded scene graphs, their images and their captions.

Everything is a pure function of ``(split, index)``; nothing is stored. The random stream is
``random.Random(text).random()`` alone, which Python guarantees to be the same in every version.
"""

from clipbias.scenes.language import Sentence, long_caption, short_caption
from clipbias.scenes.render import render
from clipbias.scenes.world import SPLITS, WORLD_VERSION, Scene, Thing, sample_scene

__all__ = [
    "SPLITS",
    "WORLD_VERSION",
    "Scene",
    "Sentence",
    "Thing",
    "long_caption",
    "render",
    "sample_scene",
    "short_caption",
]
