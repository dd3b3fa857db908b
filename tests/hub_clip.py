"""transformers' CLIP tokenizer over CLIP's own vocabulary, as its files on the hub describe it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from open_clip.tokenizer import SimpleTokenizer


@lru_cache(maxsize=1)
def clip_tokenizer() -> Any:
    """A ``CLIPTokenizer``; its special words are spelt as OpenAI's."""
    from transformers import CLIPTokenizer

    own = SimpleTokenizer()
    merges = [tuple(pair) for pair in sorted(own.bpe_ranks, key=own.bpe_ranks.__getitem__)]
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    return CLIPTokenizer(vocab={names.get(k, k): v for k, v in own.encoder.items()}, merges=merges)
