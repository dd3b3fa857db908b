"""The one contract every model is used through."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from clipbias.errors import NotApplicable, UserError
from clipbias.models.identity import with_fingerprint
from clipbias.models.tower import TextTower

if TYPE_CHECKING:
    from PIL import Image

    from clipbias.models.clip_encoder import ClipEncoder

PATHS = "upright by EXIF, RGB"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Encoder(ABC):
    """Texts and images to L2-normalised float32 features [N, D] on the CPU, in input order.

    Attributes:
        name: what the user asked for.
        family: the reader that built it.
        fingerprint: hex digest over weights and options.
        options: how the family read its file.
        device, precision: where and in which floating-point type it computes.
        context_length: token positions, special tokens included; 0 where the model does not say.
        embed_dim: D.
        vouched: whether the fingerprint is sure to name the weights, so that features may be kept.
        streams: whether `encode_images` takes any number of images, decodes ahead of what it computes, and says how far
            it is (`LazyImages.told`); others are given a few hundred at a time.
    """

    name: str
    family: str
    fingerprint: str
    options: Mapping[str, str]
    device: torch.device
    precision: str
    context_length: int
    embed_dim: int
    vouched: bool = True
    streams: bool = False

    def identity(self) -> dict[str, Any]:
        """Everything that decides a feature, as plain JSON values, with one ``fingerprint`` of it all.

        ``weights`` (digest), ``images`` (preprocessing), ``tokens`` (vocabulary, cleaning, length, special words),
        ``options``, ``context_length``, ``precision``, ``device``.
        """
        return with_fingerprint(
            {
                "weights": self.fingerprint,
                "images": {},
                "tokens": {},
                "options": dict(self.options),
                "context_length": self.context_length,
                "precision": self.precision,
                "device": self.device.type,
                **self._parts(),
            }
        )

    def _parts(self) -> dict[str, Any]:
        """What an encoder adds to its `identity`."""
        return {}

    @abstractmethod
    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Token ids, LongTensor [N, context_length]; a text too long is cut as the model's authors cut it."""

    @abstractmethod
    def token_lengths(self, texts: Sequence[str]) -> np.ndarray:
        """Uncut token counts [N], special tokens included: above ``context_length`` a text is cut."""

    @abstractmethod
    def encode_token_ids(self, ids: Tensor, batch_size: int | None = None) -> Tensor:
        """Features [N, D] of ready-made ids [N, L]."""

    @abstractmethod
    def encode_texts(self, texts: Sequence[str], batch_size: int | None = None) -> Tensor:
        """Features [N, D] of texts."""

    @abstractmethod
    def encode_images(self, images: Sequence[Image.Image | str | Path], batch_size: int | None = None) -> Tensor:
        """Features [N, D] of PIL images or paths.

        Raises:
            UserError: a path that is no readable image.
        """

    def text_tower(self) -> TextTower:
        """The text tower, for probes that look into it or change token ids.

        Raises:
            NotApplicable: nothing is known of it.
        """
        raise NotApplicable(f"{self.name}: nothing is known of its text tower, only what it makes of whole texts")

    def as_clip(self) -> ClipEncoder:
        """The model in open_clip's modules, which recipes train.

        Raises:
            UserError: it cannot be.
        """
        raise UserError(
            f"{self.name}: fine-tuning needs a model of open_clip's or transformers' with a position table of its text "
            "tower: CLIP, Long-CLIP, OpenCLIP, SigLIP"
        )

    def compile(self) -> None:
        """Let ``torch.compile`` make the towers faster, at the cost of a minute at the first batch.

        Raises:
            UserError: this kind of model cannot be compiled.
        """
        raise UserError(f"{self.name}: only models of open_clip's modules can be compiled")


def opened(image: Image.Image | str | Path) -> Image.Image:
    """The image; a path is read as data sets read theirs: turned upright by its EXIF orientation, and as RGB.

    Raises:
        UserError: a path that is no readable image.
    """
    if isinstance(image, (str, Path)):
        from clipbias.data.images import open_image

        return open_image(Path(image))
    return image


def check_precision(precision: str, device: torch.device) -> None:
    """Refuse a floating-point type that the device cannot compute in.

    Raises:
        UserError: unknown, or fp16 on the CPU.
    """
    if precision not in DTYPES:
        raise UserError(f"no precision is called {precision!r}; choose {', '.join(DTYPES)}")
    if precision == "fp16" and device.type == "cpu":
        raise UserError("precision fp16 needs a GPU; on the CPU choose fp32 or bf16")
