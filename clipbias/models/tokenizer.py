"""CLIP's byte-pair tokenizer with a stated truncation rule: cut, and put EOT last."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from clipbias.models.towers import EOT, PAD, SOT


@lru_cache(maxsize=1)
def _bpe():
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer()


@lru_cache(maxsize=1 << 16)
def _token_ids(text: str) -> tuple[int, ...]:
    # Kept, because a run tokenises the same texts for every model, and once more to count what is cut.
    return tuple(_bpe().encode(text))


def clip_token_lists(texts: Sequence[str]) -> list[tuple[int, ...]]:
    """Token ids of each text without SOT and EOT, uncut (ftfy, html unescape, lower case, CLIP BPE)."""
    return [_token_ids(text) for text in texts]


def pack_ids(tokens: Sequence[Sequence[int]], context_length: int) -> Tensor:
    """``[SOT, text, EOT, PAD...]`` as LongTensor [N, context_length]; a text too long is cut before EOT."""
    out = torch.full((len(tokens), context_length), PAD, dtype=torch.long)
    for row, ids in zip(out, tokens, strict=True):
        kept = ids[: context_length - 2]
        row[: len(kept) + 2] = torch.tensor([SOT, *kept, EOT])
    return out


def clip_tokenizer(context_length: int) -> Callable[[Sequence[str]], Tensor]:
    """The tokenizer of the CLIP families at one context length."""

    def tokenize(texts: Sequence[str]) -> Tensor:
        return pack_ids(clip_token_lists(texts), context_length)

    return tokenize
