"""Transforms of whole sentences: which stay, in which order, and what stands between them."""

from __future__ import annotations

import random
from typing import Literal

from clipbias.probe.parameters import Count, Filler, Place, Positive, Seed
from clipbias.probe.transforms._registry import Sentences, register_transform


@register_transform
def keep_first(sentences: Sentences, n: Positive) -> Sentences:
    """The first ``n`` sentences; a shorter caption is kept whole."""
    return sentences[:n]


@register_transform
def drop(sentences: Sentences, k: Place) -> Sentences | None:
    """Without sentence ``k`` (from 1); not for captions that end before it or would be empty."""
    if len(sentences) < max(k, 2):
        return None
    return sentences[: k - 1] + sentences[k:]


@register_transform
def swap(sentences: Sentences, i: Place, j: Place) -> Sentences | None:
    """Sentences ``i`` and ``j`` (from 1) exchanged; not for captions that end before either."""
    if len(sentences) < max(i, j):
        return None
    out = list(sentences)
    out[i - 1], out[j - 1] = out[j - 1], out[i - 1]
    return tuple(out)


@register_transform
def pad(
    sentences: Sentences, text: Filler, n: Count, where: Literal["before", "after", "between"] = "before"
) -> Sentences:
    """``n`` copies of ``text`` before, after or between the sentences (paper, Figure 2)."""
    filler = (text,) * n
    if where == "before":
        return filler + sentences
    if where == "after":
        return sentences + filler
    return sentences[:1] + filler + sentences[1:]


@register_transform
def reverse(sentences: Sentences) -> Sentences | None:
    """The sentences from last to first; not for a single one."""
    return sentences[::-1] if len(sentences) > 1 else None


@register_transform
def rotate(sentences: Sentences, by: Count = 1) -> Sentences | None:
    """The first ``by`` sentences moved to the end; not for a single sentence."""
    if len(sentences) < 2:
        return None
    by %= len(sentences)
    return sentences[by:] + sentences[:by]


@register_transform
def permute(sentences: Sentences, seed: Seed) -> Sentences | None:
    """A random order, the same for the same seed and sentences; not for a single sentence."""
    if len(sentences) < 2:
        return None
    out = list(sentences)
    random.Random(f"{seed}/{' '.join(sentences)}").shuffle(out)
    return tuple(out)
