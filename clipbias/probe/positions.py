"""Shares of a whole that fall on a caption's positions: by token, by tenth of the caption, by sentence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clipbias.models.tokenizer import Tokens

TENTHS = 10
SENTENCES = 12


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


def curves(weights: Sequence[np.ndarray], sentences: Sequence[np.ndarray], width: int) -> dict[str, np.ndarray]:
    """N captions' weights by position, NaN where a caption has none.

    Args:
        weights: [L] of each caption.
        sentences: the sentence [L] of each token, as `sentence_of_tokens` gives it.
        width: most tokens a caption can have.

    Returns:
        "token" [N, width], "tenth" [N, 10], "sentence" [N, 12].
    """
    count = len(weights)
    by_token, by_sentence = np.full((count, width), np.nan), np.full((count, SENTENCES), np.nan)
    by_tenth = np.zeros((count, TENTHS))
    for number, (mine, sentence) in enumerate(zip(weights, sentences, strict=True)):
        by_token[number, : len(mine)] = mine
        np.add.at(by_tenth[number], np.arange(len(mine)) * TENTHS // max(1, len(mine)), mine)
        counted = np.bincount(sentence, weights=mine)[:SENTENCES]
        by_sentence[number, : len(counted)] = counted
    return {"token": by_token, "tenth": by_tenth, "sentence": by_sentence}
