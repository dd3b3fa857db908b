"""The second world of scenes: a summary that summarises, and a web-like corpus to pre-train on.

Pure functions of ``(split, index)``, as in `clipbias.scenes`. docs/experiment.md says why, and what is measured on it.
"""

from clipbias.scenes.v2.language import long_caption, short_caption
from clipbias.scenes.v2.web import BOILERPLATE, web_caption
from clipbias.scenes.v2.world import SPLITS, WORLD_VERSION, sample_scene

__all__ = [
    "BOILERPLATE",
    "SPLITS",
    "WORLD_VERSION",
    "long_caption",
    "sample_scene",
    "short_caption",
    "web_caption",
]
