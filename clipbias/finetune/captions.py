"""How a recipe makes the short caption out of a long one."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence


def sample_stream(seed: int, epoch: int, index: int) -> random.Random:
    """The random stream of one sample in one epoch.

    It depends on nothing else, so neither the number of workers nor a resumed run changes it.
    """
    key = hashlib.sha256(f"{seed}/{epoch}/{index}".encode()).digest()
    return random.Random(int.from_bytes(key[:8], "big"))


def one_line(caption: str) -> str:
    """A caption as Long-CLIP's public code reads it: newlines are spaces."""
    return caption.replace("\n", " ")


def text_before_first_stop(caption: str) -> str:
    """Long-CLIP's rule for the short caption: the text of `one_line` before the first ``". "``."""
    return one_line(caption).split(". ")[0]


def debias_sentences(
    sentences: Sequence[str], stream: random.Random, drop_summary: bool = True, sample: bool = True
) -> list[str]:
    """DeBias-CLIP's short caption: drop ``s1``, then draw ``n ~ U{1..k-1}`` of the rest in random order.

    A caption of one sentence keeps it (the paper does not say). Without ``sample`` all that is left
    stays in order.
    """
    left = list(sentences[1:]) if drop_summary and len(sentences) > 1 else list(sentences)
    if not sample or not left:
        return left
    return stream.sample(left, stream.randint(1, len(left)))


def prefix_length(text_length: int, context_length: int, stream: random.Random) -> int:
    """``n_pre ~ U{0..n_post}``: how many of the trailing pads move between SOT and the text.

    ``text_length`` counts SOT, text and EOT; ``n_post`` is what is left of the context.
    """
    return stream.randint(0, context_length - text_length)
