"""Rigged encoders: what they read of a text is known exactly, so what probes must say of them is known too.

A word is a token with a random vector, a text the weighted sum of the vectors of the words that are read:

- ``first words``: the first `FIRST_WORDS` of them, alike;
- ``weighted``: all, the k-th (from 0) with weight `DECAY` ** k: behind p pads the feature is that of the text alone;
- ``no order``: the set of words, each once;
- ``summary``: the words of the caption's first sentence, wherever it stands, and nothing where it is not whole;
- ``everything``: all words bound to their places.

The picture of a caption carries nothing but its number; its feature is that of the caption, read whole.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from clipbias.data.dataset import RetrievalDataset
from clipbias.data.scenes import load_scenes
from clipbias.models.encoder import Encoder, opened
from clipbias.models.tokenizer import require_room
from clipbias.models.tower import Attention, TextTower

KINDS = ("first words", "weighted", "no order", "summary", "everything")
FIRST_WORDS = 8
DECAY = 0.97
CAPTIONS = 100
CONTEXT = 256
_DIM = 128
_WORD = re.compile(r"\S+")


def rigged_data() -> RetrievalDataset:
    """Captions of the built-in validation scenes; the picture of caption i is of colour i, its short one its first."""
    scenes = load_scenes(split="validation")
    sentences, wrong = list(scenes.sentences or ())[:CAPTIONS], list(islice(scenes.told_wrong or (), CAPTIONS))
    return RetrievalDataset(
        name="selftest",
        split="all",
        protocol=f"{CAPTIONS} captions of the built-in scenes, pictures that carry their number",
        image_names=[str(i) for i in range(CAPTIONS)],
        load_image=lambda i: Image.new("RGB", (1, 1), (i % 256, i // 256, 0)),
        captions=[" ".join(s) for s in sentences],
        caption_image=np.arange(CAPTIONS),
        sentences=sentences,
        short_captions=[s[0] for s in sentences],
        told_wrong=wrong,
    )


class Words:
    """A tokenizer of whole words, without special tokens; 0 is the pad."""

    context_length = room = CONTEXT
    text_start = 0

    def __init__(self) -> None:
        self._known: dict[str, int] = {}
        self.vectors = np.zeros((1024, _DIM))  # [V, D], a word's at its id; the last coordinate stays 0

    def _id(self, word: str) -> int:
        if word not in self._known:
            seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")
            number = self._known[word] = len(self._known) + 1
            if number == len(self.vectors):
                self.vectors = np.vstack([self.vectors, np.zeros_like(self.vectors)])
            self.vectors[number, :-1] = np.random.Generator(np.random.PCG64(seed)).standard_normal(_DIM - 1)
        return self._known[word]

    def ids(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """See `clipbias.models.tokenizer.Tokens.ids`."""
        return [tuple(map(self._id, text.lower().split())) for text in texts]

    def spans(self, texts: Sequence[str]) -> list[np.ndarray]:
        """See `Tokens.spans`."""
        return [np.array([m.span() for m in _WORD.finditer(text)], dtype=np.int64).reshape(-1, 2) for text in texts]

    def pack(self, ids: Sequence[Sequence[int]], pads: int = 0) -> Tensor:
        """See `Tokens.pack`."""
        room = require_room(CONTEXT, 0, pads)
        out = torch.zeros(len(ids), CONTEXT, dtype=torch.long)
        for row, own in zip(out, ids, strict=True):
            row[pads : pads + len(own[:room])] = torch.tensor(own[:room], dtype=torch.long)
        return out

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """See `Tokens`."""
        return self.pack(self.ids(texts))

    def lengths(self, texts: Sequence[str]) -> np.ndarray:
        """See `Tokens.lengths`."""
        return np.array([len(own) for own in self.ids(texts)], dtype=np.int64)

    def at(self, context_length: int) -> Words:
        """The same: there is one length."""
        return self

    def record(self) -> dict[str, object]:
        """See `Tokens.record`."""
        return {"kind": "words", "length": CONTEXT}


class RiggedTower(TextTower):
    """Reads ids as its ``kind`` says; see the module."""

    def __init__(self, kind: str, tokens: Words, summaries: Sequence[str]) -> None:
        self.name, self.kind, self.tokens, self._words = kind, kind, tokens, tokens
        self._summaries = set(tokens.ids(summaries))
        self._begin = {own[0] for own in self._summaries}
        self._lengths = sorted({len(own) for own in self._summaries})

    def weights(self, row: np.ndarray) -> np.ndarray:
        """The weight [L] of each of the ids [L] of a text, pads included."""
        words = row > 0
        if self.kind == "first words":
            return words * (np.arange(len(row)) < FIRST_WORDS).astype(float)
        if self.kind == "weighted":
            return words * DECAY ** np.arange(len(row))
        out = np.zeros(len(row))
        if self.kind == "no order":
            out[np.unique(row, return_index=True)[1]] = 1.0
            return out * words
        if self.kind == "summary":
            own = tuple(row.tolist())
            for start in (k for k, word in enumerate(own) if word in self._begin):
                for length in self._lengths:
                    if own[start : start + length] in self._summaries:
                        out[start : start + length] = 1.0
            return out
        return words.astype(float)

    def _sum(self, row: np.ndarray) -> np.ndarray:
        vectors, weights = self._words.vectors, self.weights(row)
        read = np.flatnonzero(weights)
        if not len(read):
            return np.eye(_DIM)[-1]  # alike to every picture
        if self.kind == "everything":  # a cyclic shift binds a word to its place
            places = (np.arange(_DIM) - 3 * read[:, None]) % _DIM
            return np.asarray(np.take_along_axis(vectors[row[read]], places, axis=1).sum(axis=0))
        # Summed in the order of ids: equal bags are equal to the bit.
        read = read[np.argsort(row[read], kind="stable")] if self.kind != "weighted" else read
        return np.asarray(weights[read] @ vectors[row[read]])

    def features(self, ids: Tensor) -> Tensor:
        """See `TextTower.features`."""
        sums = [self._sum(_trimmed(row)) for row in ids.numpy()]
        found = np.stack(sums) if sums else np.empty((0, _DIM))
        return torch.from_numpy(found / np.linalg.norm(found, axis=1, keepdims=True)).float()

    def attention(self, ids: Tensor) -> Attention:
        """Weights as shares: one layer, one head; behind the last word nothing is read."""
        weights = np.stack([self.weights(row) for row in ids.numpy()])
        shares = torch.from_numpy(weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-12))
        query = torch.full((len(ids),), ids.shape[1] - 1)
        return Attention(shares[:, None, None], shares, query)

    def gradients(self, ids: Tensor, images: Tensor) -> Tensor:
        """Of the cosine of the weighted sum f with an image i: w (e.i / |f| - cos e.f / |f|^2) at a word's vector e."""
        out = torch.zeros(ids.shape, dtype=torch.float64)
        for line, (row, image) in enumerate(zip(ids.numpy(), images.double().numpy(), strict=True)):
            total, vectors = self._sum(row), self._words.vectors[row]
            size = float(np.linalg.norm(total))
            cosine = float(total @ image) / size
            out[line] = torch.from_numpy(
                self.weights(row) * (vectors @ image / size - cosine * (vectors @ total) / size**2)
            )
        return out


def _trimmed(row: np.ndarray) -> np.ndarray:
    """The row up to its last word."""
    return row[: int(np.flatnonzero(row)[-1]) + 1] if row.any() else row[:0]


class RiggedEncoder(Encoder):
    """Texts as a `RiggedTower` of ``kind`` reads them, pictures by the caption whose number they carry.

    ``sees``: how a picture's caption is read; the same way unless said.
    """

    family, precision, context_length, embed_dim = "rigged", "fp32", CONTEXT, _DIM

    def __init__(self, data: RetrievalDataset, kind: str, sees: str = "") -> None:
        tokens = Words()
        summaries = [sentences[0] for sentences in data.sentences or ()]
        self.name, self.options, self.device = kind, {"sees": sees or kind}, torch.device("cpu")
        self.fingerprint = f"rigged-{kind}-{sees or kind}"
        self.tower = RiggedTower(kind, tokens, summaries)
        self.captions, self._eye = data.captions, RiggedTower(sees or kind, tokens, summaries)

    def text_tower(self) -> TextTower:
        """See `Encoder.text_tower`."""
        return self.tower

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """See `Encoder.tokenize`."""
        return self.tower.tokens(texts)

    def token_lengths(self, texts: Sequence[str]) -> np.ndarray:
        """See `Encoder.token_lengths`."""
        return self.tower.tokens.lengths(texts)

    def encode_token_ids(self, ids: Tensor, batch_size: int | None = None) -> Tensor:
        """See `Encoder.encode_token_ids`."""
        return self.tower.features(ids)

    def encode_texts(self, texts: Sequence[str], batch_size: int | None = None) -> Tensor:
        """See `Encoder.encode_texts`."""
        return self.tower.features(self.tokenize(texts))

    def encode_images(self, images: Sequence[Image.Image | str | Path], batch_size: int | None = None) -> Tensor:
        """See `Encoder.encode_images`."""
        numbers = [opened(image).convert("RGB").tobytes()[:2] for image in images]
        chosen = [self.captions[(red + 256 * green) % len(self.captions)] for red, green in numbers]
        return self._eye.features(self._eye.tokens(chosen))
