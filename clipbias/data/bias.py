"""Is the first sentence of long captions a summary? Asked of the captions alone, without any image.

Three things make a summary: it is short, what it says is said again later, and the rest does without it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from clipbias.stats.intervals import Interval, mean

_WORD = re.compile(r"[\w']+")
# Words that say nothing of an image by themselves.
_FUNCTION_WORDS = (
    "a an and are as at be been being but by for from has have in into is it its of on or over that the their them "
    "there these they this those to under up was were which while with"
)
_FUNCTION = frozenset(_FUNCTION_WORDS.split())
Embed = Callable[[Sequence[str]], np.ndarray]
"""Texts -> L2-normalised features [N, D]."""


class Finding(NamedTuple):
    """One number about the first sentences (or, to compare with, about the others), with its 95% interval."""

    name: str
    value: float
    interval: Interval | None
    captions: int


def words(text: str) -> list[str]:
    """Lower-cased words."""
    return [word.lower() for word in _WORD.findall(text)]


def content(text: str) -> list[str]:
    """`words` without function words."""
    return [word for word in words(text) if word not in _FUNCTION]


def repeated(sentence: Sequence[str], rest: Sequence[str], n: int) -> float:
    """The share of a sentence's n-grams that the rest says too; NaN where it has none."""
    grams = [tuple(sentence[k : k + n]) for k in range(len(sentence) - n + 1)]
    known = {tuple(rest[k : k + n]) for k in range(len(rest) - n + 1)}
    return float(np.mean([gram in known for gram in grams])) if grams else float("nan")


def summary_findings(
    captions: Sequence[tuple[str, ...]], cluster: np.ndarray, embed: Embed | None = None
) -> list[Finding]:
    """What the first sentence is to the rest of captions of at least three sentences.

    - ``first_words``, ``other_words``: words of the first sentence, and of the others on average;
    - ``first_share``: the first sentence's share of the caption's words;
    - ``first_repeated_1``, ``_2``: the share of its content words (of its bigrams) that the rest says too;
      ``other_repeated_1``, ``_2``: the same of the other sentences, each against the caption without it, on average;
    - with ``embed``: ``first_cosine``, ``other_cosine``: the cosine of a sentence with the rest of its caption;
      ``rest_identifies``, ``first_identifies``: how often the caption without its first sentence (the first sentence
      alone) is nearer to the whole caption than that of any other caption is.

    Args:
        captions: sentences of each caption.
        cluster: [M] the image of each.
        embed: a text encoder.
    """
    chosen = np.array([i for i, sentences in enumerate(captions) if len(sentences) > 2], dtype=int)
    long = [captions[i] for i in chosen]
    values: dict[str, list[float]] = {}
    for sentences in long:
        counts = [len(words(s)) for s in sentences]
        found = {
            "first_words": counts[0],
            "other_words": float(np.mean(counts[1:])),
            "first_share": counts[0] / max(1, sum(counts)),
        }
        told = [content(s) for s in sentences], [words(s) for s in sentences]
        for n, parts in zip((1, 2), told, strict=True):
            shares = [
                repeated(part, [w for j, other in enumerate(parts) if j != k for w in other], n)
                for k, part in enumerate(parts)
            ]
            others = [share for share in shares[1:] if not np.isnan(share)]
            found |= {f"first_repeated_{n}": shares[0], f"other_repeated_{n}": float(np.mean(others or [np.nan]))}
        for name, value in found.items():
            values.setdefault(name, []).append(value)
    if embed is not None and long:
        values |= {name: list(column) for name, column in _embedded(long, embed).items()}
    images = np.asarray(cluster)[chosen]
    out = []
    for name, column in values.items():
        told_of = ~np.isnan(column)
        if told_of.any():
            mine = np.array(column)[told_of]
            out.append(Finding(name, float(mine.mean()), mean(mine, images[told_of]), int(told_of.sum())))
    return out


def _embedded(long: Sequence[tuple[str, ...]], embed: Embed) -> dict[str, np.ndarray]:
    """The findings that need a text encoder, a value a caption."""
    whole, first, rest = (embed([" ".join(s[part]) for s in long]) for part in (slice(None), slice(1), slice(1, None)))
    middle = [1 + i % (len(s) - 1) for i, s in enumerate(long)]  # one other sentence each, all places in turn
    one = embed([s[k] for s, k in zip(long, middle, strict=True)])
    without = embed([" ".join(s[:k] + s[k + 1 :]) for s, k in zip(long, middle, strict=True)])
    out = {"first_cosine": (first * rest).sum(axis=1), "other_cosine": (one * without).sum(axis=1)}
    for name, part in (("rest_identifies", rest), ("first_identifies", first)):
        near = np.empty(len(long))
        for start in range(0, len(long), 1024):
            scores = part[start : start + 1024] @ whole.T
            own = scores[np.arange(len(scores)), start + np.arange(len(scores))][:, None]
            near[start : start + len(scores)] = 1 / (scores >= own).sum(axis=1) * ((scores > own).sum(axis=1) == 0)
        out[name] = near
    return out
