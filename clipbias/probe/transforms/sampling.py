"""Transforms that leave out at random: sentences or words (HyFL-CLIP, arXiv 2607.00428, Table S9)."""

from __future__ import annotations

import random

from clipbias.probe.parameters import Positive, Seed, Share
from clipbias.probe.transforms._registry import Sentences, register_transform


@register_transform
def sample(sentences: Sentences, n: Positive, seed: Seed) -> Sentences | None:
    """``n`` sentences drawn without replacement, in the caption's order; not for captions of ``n`` or fewer."""
    if len(sentences) <= n:
        return None
    chosen = random.Random(f"sample/{seed}/{' '.join(sentences)}").sample(range(len(sentences)), n)
    return tuple(sentences[k] for k in sorted(chosen))


@register_transform
def drop_words(sentences: Sentences, p: Share, seed: Seed) -> Sentences | None:
    """Each word left out with probability ``p``, independently; not for captions that would lose every word."""
    draw = random.Random(f"drop_words/{seed}/{' '.join(sentences)}")
    kept = (" ".join(word for word in sentence.split() if draw.random() >= p) for sentence in sentences)
    return tuple(sentence for sentence in kept if sentence) or None
