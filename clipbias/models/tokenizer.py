"""The contract of tokenizers, and CLIP's byte-pair encoding with a stated truncation rule."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from clipbias.errors import NotApplicable
from clipbias.models.identity import digest
from clipbias.models.ids import EOT, PAD, SOT
from clipbias.models.spans import original_spans

if TYPE_CHECKING:
    from open_clip.tokenizer import SimpleTokenizer


class Tokens(Protocol):
    """Texts to ids, in two steps: the ids of a text alone, and rows of ids with special tokens and padding.

    A special token's own spelling in a text is plain text: no caption is cut by what is written in it.
    """

    @property
    def context_length(self) -> int:
        """Positions of a row of ids."""
        ...

    @property
    def text_start(self) -> int:
        """Position of a text's first token: 1 behind a start token, 0 where there is none."""
        ...

    @property
    def room(self) -> int:
        """Most tokens of a text that fit into a row, special tokens not counted."""
        ...

    def ids(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """Each text's own tokens, uncut, without special tokens."""
        ...

    def spans(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Start and end [n, 2] in its text of each of a text's `ids`."""
        ...

    def pack(self, ids: Sequence[Sequence[int]], pads: int = 0) -> Tensor:
        """Rows [N, context_length] of texts' own ids; ``pads`` pads stand before the text.

        Raises:
            NotApplicable: so many pads leave no place for the text.
        """
        ...

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """LongTensor [N, context_length] of texts; one too long is cut."""
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


def require_room(context_length: int, special: int, pads: int) -> int:
    """Places left for a text.

    Raises:
        NotApplicable: none.
    """
    room = context_length - special - pads
    if pads and room < 1:
        raise NotApplicable(
            f"{pads} pads and {special} special tokens leave no place for a text in {context_length} positions"
        )
    return max(0, room)


@lru_cache(maxsize=1)
def _bpe() -> SimpleTokenizer:
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer()


@lru_cache(maxsize=1)
def _pattern() -> Any:
    import regex

    # CLIP's own without its special words, which are plain text here.
    return regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+", regex.IGNORECASE)


@lru_cache(maxsize=1)
def _bpe_digest() -> str:
    merges = sorted(_bpe().bpe_ranks, key=_bpe().bpe_ranks.__getitem__)
    return digest(*(" ".join(pair) for pair in merges))


def clip_vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """CLIP's tokens with their ids, special tokens spelt as OpenAI does, and its merges in order."""
    own = _bpe()
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    merges = [(one, other) for one, other in sorted(own.bpe_ranks, key=own.bpe_ranks.__getitem__)]
    return {names.get(token, token): number for token, number in own.encoder.items()}, merges


Cleaning = Literal["openai", "huggingface"]
# Unicode's white space; Python's str.split() also takes four control characters for it.
_SPACE = re.compile("[\t-\r\x85 \xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+")
_PLAIN = str.maketrans("\u2018\u2019\u201c\u201d\n", "''\"\" ")


def _clean_openai(text: str) -> str:
    straight = text.translate(_PLAIN)
    # All that ftfy and html change in such a text is its quotes; they cost more than all the rest.
    plain = straight.isascii() and straight.isprintable() and "&" not in straight
    return " ".join(straight.split()).lower() if plain else _bpe().clean_fn(text)


def _clean_huggingface(text: str) -> str:
    # A sign at a time, as the tokenizers library: Python's lower() looks at a whole word for the Greek sigma.
    return _SPACE.sub(" ", "".join(map(str.lower, unicodedata.normalize("NFC", text))))


_CLEAN: dict[str, Callable[[str], str]] = {"openai": _clean_openai, "huggingface": _clean_huggingface}
_CLEANING_WORDS = {
    "openai": "ftfy, html unescape, white space, lower case",
    "huggingface": "NFC, white space, lower case",
}


@lru_cache(maxsize=1 << 16)
def _token_ids(text: str, cleaning: str) -> tuple[int, ...]:
    # Kept, because a run tokenises the same texts for every model, and once more to count what is cut.
    pieces = _pattern().findall(_CLEAN[cleaning](text))
    return tuple(chain.from_iterable(ids for ids, _ in map(_piece, pieces)))


@lru_cache(maxsize=1 << 16)
def _piece(piece: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Ids of one piece of the pattern (a word, a digit, punctuation), and where each ends in bytes.

    Captions are made of few distinct pieces.
    """
    bpe = _bpe()
    letters = "".join(bpe.byte_encoder[byte] for byte in piece.encode("utf-8"))
    parts = bpe.bpe(letters).split(" ")
    ends = np.cumsum([len(part.removesuffix("</w>")) for part in parts])
    return tuple(bpe.encoder[part] for part in parts), tuple(int(end) for end in ends)


def _clip_spans(text: str, cleaning: str) -> np.ndarray:
    """Start and end [n, 2] in ``text`` of each of its tokens."""
    cleaned = _CLEAN[cleaning](text)
    out: list[tuple[int, int]] = []
    for match in _pattern().finditer(cleaned):
        piece, (begin, _) = match.group(), match.span()
        # The character that each byte belongs to.
        owner = [n for n, sign in enumerate(piece) for _ in sign.encode("utf-8")]
        before = 0
        for end in _piece(piece)[1]:
            out.append((begin + owner[before], begin + owner[end - 1] + 1))
            before = end
    return original_spans(np.array(out, dtype=np.int64).reshape(-1, 2), cleaned, text, _CLEAN[cleaning])


def clip_token_lists(texts: Sequence[str], cleaning: Cleaning = "openai") -> list[tuple[int, ...]]:
    """CLIP's token ids of each text without SOT and EOT, uncut.

    ``cleaning``: "openai" (ftfy, html unescape, lower case) or "huggingface" (NFC, lower case).
    """
    return [_token_ids(text, cleaning) for text in texts]


def pack_ids(tokens: Sequence[Sequence[int]], context_length: int, n_pre: int = 0, pad: int = PAD) -> Tensor:
    """``[SOT, PAD * n_pre, text, EOT, pad...]``, LongTensor [N, context_length]; a text too long is cut before EOT.

    Raises:
        NotApplicable: so many pads leave no place for the text.
    """
    room = require_room(context_length, 2, n_pre)
    out = torch.full((len(tokens), context_length), pad, dtype=torch.long)
    for row, ids in zip(out, tokens, strict=True):
        kept = ids[:room]
        row[: len(kept) + n_pre + 2] = torch.tensor([SOT, *[PAD] * n_pre, *kept, EOT])
    return out


class ClipTokens:
    """The tokenizer of the CLIP families at one context length; too long a text is cut and keeps EOT last."""

    text_start = 1

    def __init__(self, context_length: int, cleaning: Cleaning = "openai") -> None:
        """``cleaning``: as OpenAI's and open_clip's code, or as Hugging Face's, which also pads with EOT."""
        self.context_length = context_length
        self.cleaning = cleaning

    @property
    def room(self) -> int:
        """See `Tokens.room`."""
        return max(0, self.context_length - 2)

    def ids(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """See `Tokens.ids`."""
        return clip_token_lists(texts, self.cleaning)

    def spans(self, texts: Sequence[str]) -> list[np.ndarray]:
        """See `Tokens.spans`."""
        return [_clip_spans(text, self.cleaning) for text in texts]

    def pack(self, ids: Sequence[Sequence[int]], pads: int = 0) -> Tensor:
        """See `Tokens.pack`."""
        return pack_ids(ids, self.context_length, pads, self._pad)

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """LongTensor [N, context_length]."""
        return self.pack(self.ids(texts))

    def lengths(self, texts: Sequence[str]) -> np.ndarray:
        """Uncut token counts [N], SOT and EOT included."""
        return np.array([len(ids) + 2 for ids in self.ids(texts)], dtype=np.int64)

    def at(self, context_length: int) -> ClipTokens:
        """The same tokenizer at another context length."""
        return ClipTokens(context_length, self.cleaning)

    @property
    def _pad(self) -> int:
        return PAD if self.cleaning == "openai" else EOT

    def record(self) -> dict[str, Any]:
        """See `Tokens.record`."""
        return {
            "kind": "CLIP byte-pair encoding",
            "vocabulary": _bpe_digest(),
            "cleaning": _CLEANING_WORDS[self.cleaning],
            "special_words": "plain text",
            "length": self.context_length,
            "pad": self._pad,
            "truncation": "cut, end of text kept last",
        }
