"""Where tokens lie in the text that a caption's author wrote, although tokenizers see a cleaned one."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

_WORD = re.compile(r"\S+")


def word_spans(text: str) -> np.ndarray:
    """Start and end [n, 2] of the parts of ``text`` between white space."""
    return np.array([match.span() for match in _WORD.finditer(text)], dtype=np.int64).reshape(-1, 2)


def original_spans(spans: np.ndarray, cleaned: str, text: str, clean: Callable[[str], str]) -> np.ndarray:
    """Spans in ``text`` of tokens whose spans in ``cleaned`` are known.

    Words pair off in order; those that cleaning removes are left out. A token of a word of the same length keeps its
    place in it, else it has the whole word. Where words do not pair (encoding errors that a cleaner joins), places are
    by share of the length.

    Args:
        spans: start and end [N, 2] in ``cleaned``.
        cleaned: what the tokenizer saw.
        text: what was written.
        clean: how the one becomes the other.

    Returns:
        Start and end [N, 2] in ``text``.
    """
    if cleaned == text or not len(spans):
        return spans
    theirs, ours = word_spans(cleaned), word_spans(text)
    if len(theirs) != len(ours):
        kept = [bool(clean(text[start:end]).strip()) for start, end in ours]
        ours = ours[np.array(kept, dtype=bool)]
    if len(theirs) != len(ours) or not len(ours):
        return np.round(spans * (len(text) / max(1, len(cleaned)))).astype(np.int64)
    out = np.empty_like(spans)
    for row, (start, end) in enumerate(spans):
        # Some tokenizers count the blank before a word as the token's.
        while start < end - 1 and cleaned[start].isspace():
            start += 1
        first = min(int(np.searchsorted(theirs[:, 1], start, side="right")), len(theirs) - 1)
        last = max(first, int(np.searchsorted(theirs[:, 0], end, side="left")) - 1)
        same = theirs[[first, last]] @ [-1, 1] == ours[[first, last]] @ [-1, 1]
        inside = max(0, start - theirs[first, 0]), max(0, theirs[last, 1] - end)
        out[row] = (
            ours[first, 0] + (inside[0] if same[0] else 0),
            ours[last, 1] - (inside[1] if same[1] else 0),
        )
    return out
