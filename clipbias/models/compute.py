"""Batches through two torch towers: what is common to encoders that hold a tokenizer and an image transform."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from clipbias.ahead import prefetched
from clipbias.data.image_loaders import LazyImages
from clipbias.errors import UserError
from clipbias.models.encoder import DTYPES, Encoder, opened
from clipbias.models.fp32 import full_fp32
from clipbias.models.tokenizer import Tokens

if TYPE_CHECKING:
    from PIL import Image

# Tokens in one text batch: enough to keep the device busy. What does not fit is halved until it does.
# On the CPU small batches stay in the cache and waste less on the spread of lengths (benchmarks/suite.py text).
_TEXT_TOKENS = {"cpu": 1024, "cuda": 65_536}
_IMAGES = {"cpu": 128, "cuda": 512}

Pixels = dict[str, Tensor]
"""One image or a batch of them, by the names of the tower's inputs."""


class TorchEncoder(Encoder):
    """An `Encoder` of torch modules.

    Attributes:
        tokens: the tokenizer.
        trims: whether what stands behind a row's last needed token changes nothing, so that batches of like length are
            cut there.
    """

    tokens: Tokens
    trims: bool
    streams = True

    @abstractmethod
    def text_features(self, ids: Tensor) -> Tensor:
        """Features [B, D] of rows of ids, not normalised. The ids come on the CPU, where batches are planned."""

    @abstractmethod
    def image_features(self, pixels: Pixels) -> Tensor:
        """Features [B, D] of a batch of pixels, not normalised; they come on the CPU."""

    @abstractmethod
    def pixels(self, image: Image.Image) -> Pixels:
        """One image as the tower takes it, without the batch's dimension."""

    @abstractmethod
    def last_needed(self, ids: Tensor) -> Tensor:
        """The position [N] of each row's last token that its feature depends on."""

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """See `Encoder.tokenize`."""
        return self.tokens(texts)

    def token_lengths(self, texts: Sequence[str]) -> np.ndarray:
        """See `Encoder.token_lengths`."""
        return self.tokens.lengths(texts)

    def encode_texts(self, texts: Sequence[str], batch_size: int | None = None) -> Tensor:
        """See `Encoder.encode_texts`."""
        return self.encode_token_ids(self.tokenize(texts), batch_size)

    def encode_token_ids(self, ids: Tensor, batch_size: int | None = None) -> Tensor:
        """Features [N, D] of ready-made ids [N, L].

        Where trimming is exact batches hold texts of like length and are cut at their longest; other towers see all L
        ids. ``batch_size`` fixes the number of texts in a batch instead of the number of tokens.
        """
        made = []
        for rows, width in self._text_batches(ids, batch_size):
            features = self.run(lambda part: self.text_features(part["ids"]), {"ids": ids[rows, :width]})
            made.append((rows, self._on_its_way(features)))
        return self._placed(made, len(ids))

    def _text_batches(self, ids: Tensor, batch_size: int | None) -> Iterator[tuple[Tensor, int]]:
        """Rows and the positions that they need."""
        if not len(ids):
            return
        budget = _TEXT_TOKENS.get(self.device.type, _TEXT_TOKENS["cpu"])
        if not self.trims:
            for rows in torch.arange(len(ids)).split(batch_size or max(1, budget // ids.shape[1])):
                yield rows, ids.shape[1]
            return
        ends = self.last_needed(ids)
        order = torch.argsort(ends, descending=True, stable=True)
        start = 0
        while start < len(order):
            width = int(ends[order[start]]) + 1
            size = batch_size or max(1, budget // width)
            yield order[start : start + size], width
            start += size

    def encode_images(self, images: Sequence[Image.Image | str | Path], batch_size: int | None = None) -> Tensor:
        """See `Encoder.encode_images`; images are decoded and resized by threads while the model computes."""
        made = []
        told = images.told if isinstance(images, LazyImages) else None
        size = batch_size or _IMAGES.get(self.device.type, _IMAGES["cpu"])
        ready = prefetched(lambda index: self.pixels(opened(images[index])), len(images), ahead=size)
        for start in range(0, len(images), size):
            part = list(islice(ready, size))
            for rows in _alike(part):
                batch = {name: torch.stack([part[row][name] for row in rows]) for name in part[0]}
                placed = torch.tensor([start + row for row in rows])
                made.append((placed, self._on_its_way(self.run(self.image_features, batch))))
            if told is not None:
                told(start + len(part))
        return self._placed(made, len(images))

    def _on_its_way(self, features: Tensor) -> Tensor:
        """A copy on the CPU, from CUDA into pinned memory: the host goes on to the next batch meanwhile."""
        return features.to("cpu", non_blocking=self.device.type == "cuda")

    def _placed(self, made: Sequence[tuple[Tensor, Tensor]], count: int) -> Tensor:
        """All features [count, D] in order, once they are there."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        out = torch.empty(count, self.embed_dim)
        for rows, features in made:
            out[rows] = features
        return out

    def run(self, tower: Callable[[Pixels], Tensor], batch: Pixels) -> Tensor:
        """Normalised features of a batch, on the device; one that does not fit into memory goes through in halves.

        Raises:
            UserError: a single input does not fit.
        """
        try:
            return self._features(tower, batch)
        except RuntimeError as error:
            # CUDA says it by a type of its own, the CPU's allocator only in words.
            if not isinstance(error, torch.OutOfMemoryError) and "not enough memory" not in str(error):
                raise
            if len(next(iter(batch.values()))) == 1:
                raise UserError(f"{self.name}: one input does not fit into the memory of {self.device}") from error
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        parts = zip(*(tensor.chunk(2) for tensor in batch.values()), strict=True)
        halves = [dict(zip(batch, part, strict=True)) for part in parts]
        return torch.cat([self.run(tower, half) for half in halves])

    def _features(self, tower: Callable[[Pixels], Tensor], batch: Pixels) -> Tensor:
        enabled = self.precision != "fp32"
        with (
            torch.inference_mode(),
            full_fp32(),
            torch.autocast(self.device.type, DTYPES[self.precision], enabled=enabled),
        ):
            features = tower(batch)
        return F.normalize(features.float(), dim=-1)

    def moved(self, batch: Tensor) -> Tensor:
        """A batch on the device; the host does not wait for it."""
        if batch.device.type == self.device.type:
            return batch
        return (
            batch.pin_memory().to(self.device, non_blocking=True)
            if self.device.type == "cuda"
            else batch.to(self.device)
        )


def _alike(part: Sequence[Pixels]) -> Iterable[list[int]]:
    """Which images have pixels of the same shape; towers that take several sizes (NaFlex) compute those together."""
    groups: dict[tuple[torch.Size, ...], list[int]] = {}
    for row, one in enumerate(part):
        groups.setdefault(tuple(one[name].shape for name in one), []).append(row)
    return groups.values()
