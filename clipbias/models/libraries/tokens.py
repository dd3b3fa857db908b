"""Tokenizers of Hugging Face's libraries, as open_clip and transformers use them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clipbias.models.identity import digest
from clipbias.models.spans import original_spans, word_spans
from clipbias.models.tokenizer import require_room

# Of the text alone, however long.
_PLAIN = {"add_special_tokens": False, "split_special_tokens": True, "verbose": False}


class HubTokens:
    """A tokenizer of transformers at one context length; rows are padded to the full length.

    The spelling of special tokens in a text is plain text; where the vocabulary itself holds it, a blank behind its
    first sign breaks it. What the tokenizer adds around a text is learnt from an example once, so
    that rows can be made of ids that a probe has changed.
    """

    def __init__(
        self,
        tokenizer: Any,
        context_length: int,
        clean: Callable[[str], str] | None = None,
        cleaning: str = "none of its own",
        mode: str = "",
        strip_separator: bool = False,
    ) -> None:
        """Take a tokenizer.

        Args:
            tokenizer: transformers' own.
            context_length: positions.
            clean: what a text goes through first.
            cleaning: that in words.
            mode: open_clip's ``tokenizer_mode``: "clips" puts the class token last.
            strip_separator: open_clip's ``strip_sep_token``: the separator becomes 0.
        """
        # Fast tokenizers know each token's place in the text.
        self._fast = getattr(tokenizer, "backend_tokenizer", None) is not None
        self.context_length = context_length
        self.tokenizer = tokenizer
        self._own_clean, self._cleaning, self._mode, self._strip = clean or str, cleaning, mode, strip_separator
        self._spelled: tuple[str, ...] = ()
        # Some vocabularies hold the spelling of special tokens as a piece like any other.
        special = dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))
        special.pop(str(tokenizer.unk_token), None)
        self._spelled = tuple(word for word, number in special.items() if word and number in self.ids([word])[0])
        whole, bare = tokenizer("a").input_ids, tokenizer("a", add_special_tokens=False).input_ids
        start = next((n for n in range(len(whole)) if whole[n : n + len(bare)] == bare), 0)
        self._before, self._after = whole[:start], whole[start + len(bare) :]
        self._last: list[int] = []
        if mode == "clips":
            self._before, self._after = [tokenizer.bos_token_id], [tokenizer.eos_token_id]
            self._last = [tokenizer.cls_token_id]
        pad = tokenizer.pad_token_id
        self.pad = int(0 if pad is None else pad)

    def _clean(self, text: str) -> str:
        text = self._own_clean(text)
        for word in self._spelled:
            text = text.replace(word, f"{word[0]} {word[1:]}")
        return text

    @property
    def text_start(self) -> int:
        """See `clipbias.models.tokenizer.Tokens.text_start`."""
        return len(self._before)

    @property
    def _special(self) -> int:
        return len(self._before) + len(self._after) + len(self._last)

    @property
    def room(self) -> int:
        """See `clipbias.models.tokenizer.Tokens.room`."""
        return max(0, self.context_length - self._special)

    def ids(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """See `clipbias.models.tokenizer.Tokens.ids`."""
        if not len(texts):
            return []
        cleaned = [self._clean(text) for text in texts]
        return [tuple(row) for row in self.tokenizer(cleaned, **_PLAIN).input_ids]

    def spans(self, texts: Sequence[str]) -> list[np.ndarray]:
        """See `clipbias.models.tokenizer.Tokens.spans`."""
        return [self._spans(text) for text in texts]

    def _spans(self, text: str) -> np.ndarray:
        cleaned = self._clean(text)
        if not self._fast:
            return self._spans_by_word(text, cleaned)
        found = self.tokenizer(cleaned, return_offsets_mapping=True, **_PLAIN)
        places = np.array(found.offset_mapping, dtype=np.int64).reshape(-1, 2)
        return original_spans(places, cleaned, text, self._clean)

    def _spans_by_word(self, text: str, cleaned: str) -> np.ndarray:
        """For tokenizers that keep no places: a token has its word's, where words are tokenised apart."""
        words = word_spans(text)
        parts = self.ids([text[start:end] for start, end in words])
        (whole,) = self.ids([text])
        if tuple(chain.from_iterable(parts)) == whole:
            return np.repeat(words, [len(part) for part in parts], axis=0)
        ends = np.round(np.arange(1, len(whole) + 1) * (len(text) / max(1, len(whole)))).astype(np.int64)
        return np.stack([np.concatenate([[0], ends[:-1]]), ends], axis=1) if len(whole) else words[:0]

    def pack(self, ids: Sequence[Sequence[int]], pads: int = 0) -> Tensor:
        """See `clipbias.models.tokenizer.Tokens.pack`."""
        room = require_room(self.context_length, self._special, pads)
        out = torch.full((len(ids), self.context_length), self.pad, dtype=torch.long)
        for row, text in zip(out, ids, strict=True):
            made = [*self._before, *[self.pad] * pads, *text[:room], *self._after]
            row[: len(made)] = torch.tensor(made, dtype=torch.long)
        if self._last:
            out[:, -1] = self._last[0]
        if self._strip:
            out[out == self.tokenizer.sep_token_id] = 0
        return out

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """LongTensor [N, context_length]."""
        return self.pack(self.ids(texts))

    def lengths(self, texts: Sequence[str]) -> np.ndarray:
        """Uncut token counts [N], special tokens included."""
        return np.array([len(ids) + self._special for ids in self.ids(texts)], dtype=np.int64)

    def at(self, context_length: int) -> HubTokens:
        """The same tokenizer at another context length."""
        return HubTokens(self.tokenizer, context_length, self._own_clean, self._cleaning, self._mode, self._strip)

    def record(self) -> dict[str, Any]:
        """See `clipbias.models.tokenizer.Tokens.record`."""
        return {
            "kind": type(self.tokenizer).__name__,
            "vocabulary": self._digest,
            "cleaning": self._cleaning,
            "special_words": "plain text",
            "length": self.context_length,
            "pad": self.pad,
            "padding": "to the full length",
            "truncation": "cut, special tokens kept",
            "around": [self._before, self._after, self._last],
            "strip_separator": self._strip,
        }

    @cached_property
    def _digest(self) -> str:
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is None:
            return digest(*(f"{token} {number}" for token, number in sorted(self.tokenizer.get_vocab().items())))
        # What a call leaves behind (the last padding and truncation) is not the tokenizer's.
        pipeline = json.loads(backend.to_str()) | {"padding": None, "truncation": None}
        return digest(json.dumps(pipeline, sort_keys=True))

    def last_needed(self, ids: Tensor) -> Tensor:
        """The position [N] behind which a row holds pads only; an end token that is also the pad is not one."""
        filled = ids != self.pad
        last = filled.shape[1] - 1 - filled.flip(1).int().argmax(1)
        last = torch.where(filled.any(1), last, torch.zeros_like(last))
        closes = bool(self._after) and self._after[-1] == self.pad
        return (last + int(closes)).clamp(max=ids.shape[1] - 1)

    def save(self, folder: Path) -> None:
        """Write the tokenizer's files, which open_clip and transformers read from a model's folder."""
        self.tokenizer.save_pretrained(str(folder))
