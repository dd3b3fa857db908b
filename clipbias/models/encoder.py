"""The one contract every model is used through."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipbias.models.tokenizer import clip_token_lists, pack_ids
from clipbias.models.towers import causal_features, eot_positions

if TYPE_CHECKING:
    from PIL import Image

_TEXT_TOKENS = 8192  # tokens in one text batch: large enough to keep a core busy, small enough for any GPU
_IMAGES = 128
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Encoder:
    """Texts and images to L2-normalised float32 features [N, D] on the CPU, in input order.

    Attributes:
        name: what the user asked for.
        family: the reader that built it.
        context_length: token positions, SOT and EOT included.
        embed_dim: D.
        fingerprint: hex digest over weights and options.
        options: how the family read its file.
        module: open_clip ``CustomTextCLIP``.
        transform: PIL image -> pixels [3, H, W].
    """

    def __init__(
        self,
        name: str,
        family: str,
        module: nn.Module,
        transform: Callable[[Image.Image], Tensor],
        image_size: int,
        fingerprint: str,
        options: dict[str, str],
        device: torch.device,
        precision: str,
    ) -> None:
        self.name = name
        self.family = family
        self.module = module.eval().requires_grad_(False)
        self.transform = transform
        self.image_size = image_size
        self.fingerprint = fingerprint
        self.options = options
        self.device = device
        self.precision = precision
        self.context_length = int(module.text.context_length)
        self.embed_dim = int(module.text.text_projection.shape[1])

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Token ids, LongTensor [N, context_length]; a text too long is cut and keeps EOT last."""
        return pack_ids(clip_token_lists(texts), self.context_length)

    def token_lengths(self, texts: Sequence[str]) -> np.ndarray:
        """Uncut token counts [N], SOT and EOT included: above ``context_length`` a text is cut."""
        return np.array([len(ids) + 2 for ids in clip_token_lists(texts)], dtype=np.int64)

    def encode_texts(self, texts: Sequence[str], batch_size: int | None = None) -> Tensor:
        """Features [N, D] of texts."""
        return self.encode_token_ids(self.tokenize(texts), batch_size)

    def encode_token_ids(self, ids: Tensor, batch_size: int | None = None) -> Tensor:
        """Features [N, D] of ready-made ids [N, L], each with exactly one EOT.

        Batches hold texts of like length and are cut at their longest EOT, which is exact for a
        causal tower; ``batch_size`` fixes the number of texts instead of the number of tokens.
        """
        if not len(ids):
            return torch.empty(0, self.embed_dim)
        ends = eot_positions(ids)
        order = torch.argsort(ends, descending=True, stable=True)
        out = torch.empty(len(ids), self.embed_dim)
        start = 0
        while start < len(order):
            size = batch_size or max(1, _TEXT_TOKENS // (int(ends[order[start]]) + 1))
            rows = order[start : start + size]
            out[rows] = self._run(lambda part: causal_features(self.module.text, part), ids[rows])
            start += size
        return out

    def encode_images(self, images: Sequence[Image.Image | str | Path], batch_size: int | None = None) -> Tensor:
        """Features [N, D] of PIL images or paths."""
        out = torch.empty(len(images), self.embed_dim)
        size = batch_size or _IMAGES
        for start in range(0, len(images), size):
            pixels = torch.stack([self.transform(_opened(image)) for image in images[start : start + size]])
            out[start : start + len(pixels)] = self._run(self.module.visual, pixels)
        return out

    @torch.inference_mode()
    def _run(self, tower: Callable[[Tensor], Tensor], batch: Tensor) -> Tensor:
        with torch.autocast(self.device.type, DTYPES[self.precision], enabled=self.precision != "fp32"):
            features = tower(batch.to(self.device))
        return F.normalize(features.float(), dim=-1).cpu()


def _opened(image: Image.Image | str | Path) -> Image.Image:
    if isinstance(image, (str, Path)):
        from PIL import Image as PilImage

        with PilImage.open(image) as file:
            return file.convert("RGB")
    return image
