"""Tokenizers of Hugging Face's libraries, as open_clip and transformers use them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clipbias.errors import UserError
from clipbias.models.identity import digest
from clipbias.models.spans import original_spans
from clipbias.models.tokenizer import require_room


class HubTokens:
    """A tokenizer of transformers at one context length; rows are padded to the full length.

    Special words in a text are plain text. What the tokenizer adds around a text is learnt from an example once, so
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
            tokenizer: transformers' own, a fast one.
            context_length: positions.
            clean: what a text goes through first.
            cleaning: that in words.
            mode: open_clip's ``tokenizer_mode``: "clips" puts the class token last.
            strip_separator: open_clip's ``strip_sep_token``: the separator becomes 0.

        Raises:
            UserError: not a fast tokenizer, or one that cannot pad.
        """
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise UserError(f"a {type(tokenizer).__name__} is no fast tokenizer; clipbias needs its tokens' places")
        backend.encode_special_tokens = True
        self.context_length = context_length
        self.tokenizer = tokenizer
        self._clean, self._cleaning, self._mode, self._strip = clean or str, cleaning, mode, strip_separator
        whole, bare = tokenizer("a").input_ids, tokenizer("a", add_special_tokens=False).input_ids
        start = next((n for n in range(len(whole)) if whole[n : n + len(bare)] == bare), 0)
        self._before, self._after = whole[:start], whole[start + len(bare) :]
        self._last: list[int] = []
        if mode == "clips":
            self._before, self._after = [tokenizer.bos_token_id], [tokenizer.eos_token_id]
            self._last = [tokenizer.cls_token_id]
        pad = tokenizer.pad_token_id
        self._pad = int(0 if pad is None else pad)

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
        return [tuple(row) for row in self.tokenizer(cleaned, add_special_tokens=False, verbose=False).input_ids]

    def spans(self, texts: Sequence[str]) -> list[np.ndarray]:
        """See `clipbias.models.tokenizer.Tokens.spans`."""
        out = []
        for text in texts:
            cleaned = self._clean(text)
            found = self.tokenizer(cleaned, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
            places = np.array(found.offset_mapping, dtype=np.int64).reshape(-1, 2)
            out.append(original_spans(places, cleaned, text, self._clean))
        return out

    def pack(self, ids: Sequence[Sequence[int]], pads: int = 0) -> Tensor:
        """See `clipbias.models.tokenizer.Tokens.pack`."""
        room = require_room(self.context_length, self._special, pads)
        out = torch.full((len(ids), self.context_length), self._pad, dtype=torch.long)
        for row, text in zip(out, ids, strict=True):
            made = [*self._before, *[self._pad] * pads, *text[:room], *self._after]
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
        return HubTokens(self.tokenizer, context_length, self._clean, self._cleaning, self._mode, self._strip)

    def record(self) -> dict[str, Any]:
        """See `clipbias.models.tokenizer.Tokens.record`."""
        # What a call leaves behind (the last padding and truncation) is not the tokenizer's.
        pipeline = json.loads(self.tokenizer.backend_tokenizer.to_str()) | {"padding": None, "truncation": None}
        return {
            "kind": type(self.tokenizer).__name__,
            "vocabulary": digest(json.dumps(pipeline, sort_keys=True)),
            "cleaning": self._cleaning,
            "special_words": "plain text",
            "length": self.context_length,
            "pad": self._pad,
            "padding": "to the full length",
            "truncation": "cut, special tokens kept",
            "around": [self._before, self._after, self._last],
            "strip_separator": self._strip,
        }

    def save(self, folder: Path) -> None:
        """Write the tokenizer's files, which open_clip and transformers read from a model's folder."""
        self.tokenizer.save_pretrained(str(folder))
