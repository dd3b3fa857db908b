"""One sentence alone, and one sentence moved through a caption that says nothing else.

They part what a sentence says from where it stands (method of arXiv 2511.11216: a segment alone, then the same segment
at every place, the rest filled).
"""

from __future__ import annotations

from collections.abc import Sequence

from clipbias.probe.parameters import Filler, Place
from clipbias.probe.transforms._registry import Sentences, register_transform

NEUTRAL = "This is a photo."


def as_long(filler: str, sentence: str) -> str:
    """The words of ``filler``, repeated or cut to the number of words of ``sentence``."""
    words, count = filler.split(), len(sentence.split())
    if not words:
        return filler
    return " ".join((words * (count // len(words) + 1))[:count])


def placed(sentence: str, at: int, fillers: Sequence[str]) -> Sentences:
    """``sentence`` behind the first ``at`` of the ``fillers`` and before the others."""
    return (*fillers[:at], sentence, *fillers[at:])


@register_transform
def only(sentences: Sentences, k: Place) -> Sentences | None:
    """Sentence ``k`` (from 1) alone; not for captions that end before it."""
    return sentences[k - 1 : k] or None


@register_transform
def place(sentences: Sentences, k: Place, at: Place, text: Filler = NEUTRAL) -> Sentences | None:
    """Sentence ``k`` at place ``at``; every other sentence gives way to filler of as many words.

    The number of sentences and of words stays: what stands before and behind is as long as the caption's other
    sentences, in their order. Not for captions that end before ``k`` or ``at``.
    """
    if len(sentences) < max(k, at):
        return None
    filler = [as_long(text, sentence) for number, sentence in enumerate(sentences, 1) if number != k]
    return placed(sentences[k - 1], at - 1, filler)
