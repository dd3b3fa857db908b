"""From a data set to training batches; a batch is a pure function of (seed, step)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from clipbias.data.dataset import RetrievalDataset
from clipbias.finetune.captions import debias_sentences, one_line, prefix_length, sample_stream, text_before_first_stop
from clipbias.finetune.recipe import Recipe
from clipbias.models.tokenizer import ClipTokens, Tokens

if TYPE_CHECKING:
    from PIL import Image


@dataclass
class Batch:
    """One step's input: ``pixels`` [B, 3, H, W]; ids [B, context]; ``n_pre`` [B] pads to put behind SOT.

    Ids and pads stay on the CPU, where the towers plan by their lengths; parts of them are copied as they are needed.
    """

    pixels: Tensor
    long_ids: Tensor | None
    short_ids: Tensor | None
    n_pre: Tensor | None

    def pinned(self) -> Batch:
        """The same with pixels in memory that a GPU copies from while the host goes on."""
        return replace(self, pixels=self.pixels.pin_memory())

    def to(self, device: torch.device) -> Batch:
        """The same with pixels on the device."""
        return replace(self, pixels=self.pixels.to(device, non_blocking=True))

    def split(self, size: int) -> list[Batch]:
        """Batches of at most ``size`` samples; this one where ``size`` is 0."""
        count = len(self.pixels)
        if not 0 < size < count:
            return [self]
        tensors = (self.pixels, self.long_ids, self.short_ids, self.n_pre)
        return [
            Batch(*(None if t is None else t[start : start + size] for t in tensors))  # type: ignore[arg-type]
            for start in range(0, count, size)
        ]


def batch_indices(count: int, batch_size: int, seed: int, step: int) -> tuple[int, np.ndarray]:
    """Epoch and sample indices [batch_size] of a step: every epoch is its own permutation.

    Raises:
        ValueError: the data set is smaller than one batch.
    """
    per_epoch = count // batch_size
    if per_epoch == 0:
        raise ValueError(f"{count} samples do not fill one batch of {batch_size}")
    epoch, place = divmod(step, per_epoch)
    with _SHUFFLING:
        order = _order(count, seed, epoch)
    return epoch, order[place * batch_size : (place + 1) * batch_size]


_SHUFFLING = Lock()
"""Threads that ask for the same epoch wait for one shuffle of it."""


@lru_cache(maxsize=2)
def _order(count: int, seed: int, epoch: int) -> np.ndarray:
    """The order [count] of an epoch; shuffled once, since a million samples take as long as a step.

    Two are kept: batches of the next epoch are made ahead while those of this one are.
    """
    order = np.random.Generator(np.random.PCG64([seed, epoch])).permutation(count)
    order.flags.writeable = False
    return order


class BatchMaker:
    """Makes the batches of a recipe from a data set with one long caption an image."""

    def __init__(
        self,
        dataset: RetrievalDataset,
        recipe: Recipe,
        transform: Callable[[Image.Image], Tensor],
        split_sentences: Callable[[str], Sequence[str]],
        short_variant: Callable[[int, int], str] | None = None,
        tokens: Tokens | None = None,
    ) -> None:
        """What makes the batches.

        Args:
            dataset: one long caption an image.
            recipe: the recipe.
            transform: PIL image -> pixels [3, H, W].
            split_sentences: used where the data set does not know its sentences.
            short_variant: (index, epoch) -> the data set's short caption, for objective "clip".
            tokens: the model's tokenizer at the recipe's context length; CLIP's where it is not given.
        """
        self.dataset = dataset
        self.recipe = recipe
        self.transform = transform
        self.split_sentences = split_sentences
        self.short_variant = short_variant
        self.tokenize = tokens or ClipTokens(recipe.context_length)

    def __len__(self) -> int:
        return len(self.dataset.captions)

    def sentences(self, index: int) -> Sequence[str]:
        """The sentences of a caption."""
        if self.dataset.sentences is not None:
            return self.dataset.sentences[index]
        return self.split_sentences(self.dataset.captions[index])

    def _short_text(self, index: int, epoch: int) -> str:
        recipe = self.recipe
        if recipe.objective == "clip":
            assert self.short_variant is not None
            return self.short_variant(index, epoch)
        if recipe.short_rule == "none":
            return ""
        if recipe.short_rule == "first-stop":
            return text_before_first_stop(self.dataset.captions[index])
        stream = sample_stream(recipe.seed, epoch, index)
        return " ".join(debias_sentences(self.sentences(index), stream, recipe.drop_summary, recipe.sample_sentences))

    def texts(self, index: int, epoch: int) -> tuple[str, str]:
        """The long and the short caption of a sample in an epoch."""
        return one_line(self.dataset.captions[index]), self._short_text(index, epoch)

    def batch(self, indices: Sequence[int], epoch: int) -> Batch:
        """The batch of these samples in this epoch."""
        recipe = self.recipe
        pixels = torch.stack(
            [self.transform(self.dataset.load_image(int(self.dataset.caption_image[i]))) for i in indices]
        )
        pairs = [self.texts(int(i), epoch) for i in indices]
        short = [text for _, text in pairs]
        short_ids = self.tokenize(short) if recipe.has_short else None
        long_ids = self.tokenize([text for text, _ in pairs]) if recipe.objective == "long-short" else None
        n_pre = None
        if recipe.objective == "long-short" and recipe.short_rule == "sentences" and recipe.prefix_padding:
            whole = recipe.context_length
            lengths = np.minimum(self.tokenize.lengths(short), whole).tolist()
            streams = [sample_stream(recipe.seed + 1, epoch, int(i)) for i in indices]
            n_pre = torch.tensor([prefix_length(n, whole, s) for n, s in zip(lengths, streams, strict=True)])
        return Batch(pixels, long_ids, short_ids, n_pre)
