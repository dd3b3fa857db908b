"""Words in another order (the order tests of ARO, at three levels; sentences in another order: `permute`)."""

from __future__ import annotations

import random

from clipbias.probe.parameters import Positive, Seed
from clipbias.probe.transforms._registry import Sentences, register_transform


@register_transform
def shuffle_words(sentences: Sentences, n: Positive, seed: Seed) -> Sentences | None:
    """Runs of ``n`` words (1: words, 3: trigrams) shuffled within each sentence; sentences keep their places.

    The last run of a sentence may be shorter. Not for captions none of whose sentences has two runs.
    """
    out = []
    for place, sentence in enumerate(sentences):
        words = sentence.split()
        runs = [words[start : start + n] for start in range(0, len(words), n)]
        if len(runs) > 1:
            random.Random(f"shuffle_words/{seed}/{place}/{sentence}").shuffle(runs)
            out.append(" ".join(word for run in runs for word in run))
        else:
            out.append(sentence)
    return tuple(out) if any(len(sentence.split()) > n for sentence in sentences) else None
