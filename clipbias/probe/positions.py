"""Shares of a whole that fall on a caption's positions: by token, by tenth of the caption, by sentence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clipbias.models.tokenizer import Tokens

TENTHS = 10
SENTENCES = 12
"""Captions of more sentences are left out of curves by sentence."""
LEAST_CAPTIONS = 10
"""A curve by sentence is of captions of one number of sentences, at least this many."""


def sentence_of_tokens(tokens: Tokens, sentences: Sequence[str]) -> np.ndarray:
    """The sentence [L] (from 0) of each text token of the joined caption, cut where the context ends."""
    (spans,) = tokens.spans([" ".join(sentences)])
    starts = np.cumsum([0, *(len(sentence) + 1 for sentence in sentences[:-1])])
    return np.searchsorted(starts, spans[: tokens.room, 0], side="right") - 1


def shares(values: np.ndarray) -> np.ndarray:
    """Absolute values [L] as shares of their sum; all zero gives equal shares."""
    size = np.abs(values)
    total = size.sum()
    return size / total if total > 0 else np.full(len(values), 1 / max(1, len(values)))


def curves(weights: Sequence[np.ndarray], width: int) -> dict[str, np.ndarray]:
    """N captions' weights by position, NaN where a caption has none.

    Args:
        weights: [L] of each caption.
        width: most tokens a caption can have.

    Returns:
        "token" [N, width], "tenth" [N, 10].
    """
    count = len(weights)
    by_token = np.full((count, width), np.nan)
    by_tenth = np.zeros((count, TENTHS))
    for number, mine in enumerate(weights):
        by_token[number, : len(mine)] = mine
        np.add.at(by_tenth[number], np.arange(len(mine)) * TENTHS // max(1, len(mine)), mine)
    return {"token": by_token, "tenth": by_tenth}


def by_sentence(
    weights: Sequence[np.ndarray], sentences: Sequence[np.ndarray]
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Weights by sentence, apart for captions of each number of sentences, so that every curve sums to the whole.

    Args:
        weights: [L] of each caption.
        sentences: the sentence [L] of each token; those that the context cut off do not count.

    Returns:
        Number of sentences S -> (numbers [C] of the captions that have so many, their weights [C, S]).
    """
    groups: dict[int, list[int]] = {}
    for number, owner in enumerate(sentences):
        if len(owner) and owner[-1] < SENTENCES:
            groups.setdefault(int(owner[-1]) + 1, []).append(number)
    out = {}
    for count, mine in sorted(groups.items()):
        if len(mine) >= LEAST_CAPTIONS:
            curve = [np.bincount(sentences[i], weights=weights[i], minlength=count) for i in mine]
            out[count] = np.array(mine), np.stack(curve)
    return out
