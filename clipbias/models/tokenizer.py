"""Tokenizers: CLIP's byte-pair encoding with a stated truncation rule, and open_clip's other ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from clipbias.models.identity import digest
from clipbias.models.towers import EOT, PAD, SOT

if TYPE_CHECKING:
    from open_clip.tokenizer import SimpleTokenizer


VOCABULARY_SIZE = 49_408


class Tokens(Protocol):
    """Texts to ids [N, context_length], and their uncut lengths [N]."""

    @property
    def context_length(self) -> int:
        """Positions of a row of ids."""
        ...

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """LongTensor [N, context_length]."""
        ...

    @property
    def text_start(self) -> int:
        """Position of a text's first token: 1 behind a start token, 0 where there is none."""
        ...

    def lengths(self, texts: Sequence[str]) -> np.ndarray:
        """Uncut token counts [N], special tokens included."""
        ...

    def at(self, context_length: int) -> Tokens:
        """The same tokenizer at another context length."""
        ...

    def record(self) -> dict[str, Any]:
        """What decides ids, as plain JSON values."""
        ...


@lru_cache(maxsize=1)
def _bpe() -> SimpleTokenizer:
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer()


@lru_cache(maxsize=1)
def _bpe_digest() -> str:
    bpe = _bpe()
    merges = sorted(bpe.bpe_ranks, key=bpe.bpe_ranks.__getitem__)
    return digest(*(" ".join(pair) for pair in merges))


_PLAIN = str.maketrans("\u2018\u2019\u201c\u201d\n", "''\"\" ")


@lru_cache(maxsize=1 << 16)
def _token_ids(text: str) -> tuple[int, ...]:
    # Kept, because a run tokenises the same texts for every model, and once more to count what is cut.
    bpe = _bpe()
    straight = text.translate(_PLAIN)
    # All that ftfy and html change in such a text is its quotes; they cost more than all the rest.
    plain = straight.isascii() and straight.isprintable() and "&" not in straight
    clean = " ".join(straight.split()).lower() if plain else bpe.clean_fn(text)
    return tuple(chain.from_iterable(map(_piece_ids, bpe.pat.findall(clean))))


@lru_cache(maxsize=1 << 16)
def _piece_ids(piece: str) -> tuple[int, ...]:
    """Ids of one piece of the pattern (a word, a digit, punctuation); captions are made of few distinct ones."""
    bpe = _bpe()
    letters = "".join(bpe.byte_encoder[byte] for byte in piece.encode("utf-8"))
    return tuple(bpe.encoder[part] for part in bpe.bpe(letters).split(" "))


def clip_token_lists(texts: Sequence[str]) -> list[tuple[int, ...]]:
    """Token ids of each text without SOT and EOT, uncut (ftfy, html unescape, lower case, CLIP BPE)."""
    return [_token_ids(text) for text in texts]


def pack_ids(tokens: Sequence[Sequence[int]], context_length: int, n_pre: int = 0) -> Tensor:
    """``[SOT, PAD * n_pre, text, EOT, PAD...]``, LongTensor [N, context_length]; a text too long is cut before EOT."""
    out = torch.full((len(tokens), context_length), PAD, dtype=torch.long)
    for row, ids in zip(out, tokens, strict=True):
        kept = ids[: max(0, context_length - 2 - n_pre)]
        row[: len(kept) + n_pre + 2] = torch.tensor([SOT, *[PAD] * n_pre, *kept, EOT])
    return out


class ClipTokens:
    """The tokenizer of the CLIP families at one context length; too long a text is cut and keeps EOT last."""

    text_start = 1

    def __init__(self, context_length: int) -> None:
        self.context_length = context_length

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """LongTensor [N, context_length]."""
        return pack_ids(clip_token_lists(texts), self.context_length)

    def lengths(self, texts: Sequence[str]) -> np.ndarray:
        """Uncut token counts [N], SOT and EOT included."""
        return np.array([len(ids) + 2 for ids in clip_token_lists(texts)], dtype=np.int64)

    def at(self, context_length: int) -> ClipTokens:
        """The same tokenizer at another context length."""
        return ClipTokens(context_length)

    def record(self) -> dict[str, Any]:
        """See `Tokens.record`."""
        return {
            "kind": "CLIP byte-pair encoding",
            "vocabulary": _bpe_digest(),
            "cleaning": "ftfy, html unescape, white space, lower case",
            "special_words": "plain text",
            "length": self.context_length,
            "pad": PAD,
            "truncation": "cut, end of text kept last",
        }


def _tokenizer_digest(tokenizer: Any) -> str:
    """A digest of a Hugging Face tokenizer: of its whole pipeline, or of its vocabulary where it has none."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return digest(*(f"{token} {number}" for token, number in sorted(tokenizer.get_vocab().items())))
    # What a call leaves behind (the last padding and truncation) is not the tokenizer's.
    pipeline = json.loads(backend.to_str()) | {"padding": None, "truncation": None}
    return digest(json.dumps(pipeline, sort_keys=True))


class OpenClipTokens:
    """A tokenizer that open_clip chose for a model (SigLIP's, for instance), used as open_clip uses it."""

    def __init__(self, tokenizer: Any, context_length: int) -> None:
        """``tokenizer``: open_clip's; one that wraps a Hugging Face tokenizer has it as ``.tokenizer``."""
        self.context_length = context_length
        self._tokenizer = tokenizer

    @property
    def text_start(self) -> int:
        """1 where the tokenizer puts a special token before a text, else 0 (SigLIP's put only an end behind it)."""
        return int(self._tokenizer.tokenizer("a", return_special_tokens_mask=True)["special_tokens_mask"][0])

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """LongTensor [N, context_length]."""
        return self._tokenizer(list(texts), context_length=self.context_length)

    def lengths(self, texts: Sequence[str]) -> np.ndarray:
        """Uncut token counts [N], special tokens included."""
        inner = self._tokenizer.tokenizer
        return np.array([len(inner.encode(self._tokenizer.clean_fn(text))) for text in texts], dtype=np.int64)

    def at(self, context_length: int) -> OpenClipTokens:
        """The same tokenizer at another context length."""
        return OpenClipTokens(self._tokenizer, context_length)

    def record(self) -> dict[str, Any]:
        """See `Tokens.record`."""
        inner, outer = self._tokenizer.tokenizer, self._tokenizer
        return {
            "kind": type(inner).__name__,
            "vocabulary": _tokenizer_digest(inner),
            "cleaning": outer.clean_fn.__name__.strip("_"),
            "special_words": "as the tokenizer reads them",
            "length": self.context_length,
            "pad": inner.pad_token_id,
            "padding": "to the full length",
            "truncation": f"{inner.truncation_side} side cut",
            "mode": getattr(outer, "tokenizer_mode", ""),
            "strip_sep_token": getattr(outer, "strip_sep_token", False),
        }

    def save(self, folder: Path) -> None:
        """Write the tokenizer's files, which open_clip reads from a model's folder."""
        self._tokenizer.save_pretrained(str(folder))
