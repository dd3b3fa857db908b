"""Captions to pre-train on, by a stated distribution in the manner of alt texts on the web.

    [lead] core [details] [tail]

- core: a short caption (`clipbias.scenes.v2.short_caption`'s distribution: a summary, or one or two details).
- details: with probability `LONGER`, one to four details more (geometric), never a summary; each stands with
  probability `BETWEEN` behind some boilerplate.
- tail: with probability `TAIL`, boilerplate of a geometric number of words, `TAIL_WORDS` on average.
- lead: with probability ``dose``, boilerplate of a geometric number of words, `LEAD_WORDS` on average.

So captions are mostly short and say what the image shows at their start; how often something about the image starts
at a position falls with the position. What the lead does to a model's reading of later positions is asked by an
experiment (docs/experiment.md), so its probability is a parameter.

Boilerplate is drawn by Zipf's law from `BOILERPLATE`. The words of the sentences that probes put before captions
occur there, so that no probe reads an embedding that was never trained.
"""

from __future__ import annotations

from itertools import accumulate

from clipbias.scenes.v2.language import short_sentences
from clipbias.scenes.v2.world import Stream
from clipbias.scenes.world import Scene

LEAD_WORDS, TAIL, TAIL_WORDS, LONGER, MORE, BETWEEN = 4.0, 0.5, 6.0, 0.3, 0.6, 0.3

_WORDS = """
photo image stock free download www com jpg of the by is this a here an picture photos images new hd credit
copyright 2019 2020 wallpaper vector illustration art print buy sale shop online price view more click to from
for with in home page blog news gallery share post tag date may june travel design file size 24 7 best top cute
full collection poster canvas png caption see below note that it shows was taken some text about nothing
"""
BOILERPLATE = tuple(_WORDS.split())
_CUMULATED = tuple(accumulate(1 / rank for rank in range(1, len(BOILERPLATE) + 1)))


def _word(draw: Stream) -> str:
    at = draw.uniform() * _CUMULATED[-1]
    return BOILERPLATE[next(i for i, total in enumerate(_CUMULATED) if at < total)]


def _boilerplate(draw: Stream, mean: float) -> str:
    """At least one word; the number is geometric with this mean."""
    words = [_word(draw)]
    while draw.chance(1 - 1 / mean):
        words.append(_word(draw))
    return " ".join(words)


def web_caption(scene: Scene, variant: int = 0, dose: float = 0.0) -> str:
    """A caption to pre-train on; ``variant`` draws another one.

    Args:
        scene: what the image shows.
        variant: the draw.
        dose: how likely boilerplate stands before the content.
    """
    draw = Stream("web", scene.split, scene.index, variant)
    core, rest = short_sentences(scene, draw)
    parts = list(core)
    if draw.chance(LONGER):
        count = 1
        while count < min(4, len(rest)) and draw.chance(MORE):
            count += 1
        for detail in rest[:count]:
            if draw.chance(BETWEEN):
                parts.append(_boilerplate(draw, LEAD_WORDS))
            parts.append(detail)
    if draw.chance(TAIL):
        parts.append(_boilerplate(draw, TAIL_WORDS))
    # Drawn last, so that corpora of another dose differ in nothing else.
    lead = Stream("lead", scene.split, scene.index, variant)
    if lead.chance(dose):
        parts.insert(0, _boilerplate(lead, LEAD_WORDS))
    return " ".join(parts)
