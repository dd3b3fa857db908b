"""The one contract every model is used through, and its implementation for open_clip's modules."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from clipbias.ahead import prefetched
from clipbias.errors import NotApplicable, UserError
from clipbias.models.fp32 import full_fp32
from clipbias.models.identity import with_fingerprint
from clipbias.models.preprocessing import Preprocessing
from clipbias.models.tokenizer import ClipTokens, Tokens
from clipbias.models.tower import TextTower
from clipbias.models.towers import causal_features, eot_positions, is_causal

if TYPE_CHECKING:
    from open_clip.model import CustomTextCLIP
    from PIL import Image

# Tokens in one text batch: enough to keep the device busy. What does not fit is halved until it does.
# On the CPU small batches stay in the cache and waste less on the spread of lengths (benchmarks/suite.py text).
_TEXT_TOKENS = {"cpu": 1024, "cuda": 65_536}
_IMAGES = 128
_PATHS = "upright by EXIF, RGB"
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

    def compile(self) -> None:
        """Let ``torch.compile`` make the towers faster, at the cost of a minute at the first batch.

        Raises:
            UserError: this kind of model cannot be compiled.
        """
        raise UserError(f"{self.name}: only models of open_clip's modules can be compiled")


class ClipEncoder(Encoder):
    """An `Encoder` around an open_clip model with ``text`` and ``visual`` towers.

    Attributes:
        module: open_clip ``CustomTextCLIP``.
        transform: PIL image -> pixels [3, H, W].
        tokens: the tokenizer.
        config: what open_clip builds it from (``model_cfg`` and ``preprocess_cfg``), where open_clip built it.
    """

    def __init__(
        self,
        name: str,
        family: str,
        module: CustomTextCLIP,
        transform: Preprocessing,
        tokens: Tokens,
        fingerprint: str,
        options: Mapping[str, str],
        device: torch.device,
        precision: str,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = name
        self.family = family
        self.module = module.eval().requires_grad_(False)
        self.transform = transform
        self.fingerprint = fingerprint
        self.options = options
        self.device = device
        self.precision = precision
        self.config = config
        self.context_length = tokens.context_length
        self.tokens = tokens
        # Trimming is exact only where nothing behind EOT is seen and EOT is CLIP's.
        self._trim = isinstance(tokens, ClipTokens) and is_causal(module.text)
        self.embed_dim = int(self._run(self._texts, tokens([""])).shape[1])

    def _parts(self) -> dict[str, Any]:
        return {"images": self.transform.record() | {"paths": _PATHS}, "tokens": self.tokens.record()}

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

        For a causal tower read at EOT each row has exactly one EOT; batches hold texts of like length and are
        cut at their longest EOT, which is exact there. Other towers see all L ids. ``batch_size`` fixes the
        number of texts in a batch instead of the number of tokens.

        Raises:
            ValueError: a causal tower got a row without EOT.
        """
        out = torch.empty(len(ids), self.embed_dim)
        for rows in self._text_batches(ids, batch_size):
            out[rows] = self._run(self._trimmed if self._trim else self._texts, ids[rows])
        return out

    def _text_batches(self, ids: Tensor, batch_size: int | None) -> Iterator[Tensor]:
        if not len(ids):
            return
        budget = _TEXT_TOKENS.get(self.device.type, _TEXT_TOKENS["cpu"])
        if not self._trim:
            yield from torch.arange(len(ids)).split(batch_size or max(1, budget // ids.shape[1]))
            return
        ends = eot_positions(ids)
        order = torch.argsort(ends, descending=True, stable=True)
        start = 0
        while start < len(order):
            size = batch_size or max(1, budget // (int(ends[order[start]]) + 1))
            yield order[start : start + size]
            start += size

    def _trimmed(self, ids: Tensor) -> Tensor:
        return causal_features(self.module.text, ids)

    def encode_images(self, images: Sequence[Image.Image | str | Path], batch_size: int | None = None) -> Tensor:
        """See `Encoder.encode_images`; images are decoded and resized by threads while the model computes."""
        out = torch.empty(len(images), self.embed_dim)
        size = batch_size or _IMAGES
        pixels = prefetched(lambda index: self.transform(opened(images[index])), len(images), ahead=size)
        for start in range(0, len(images), size):
            batch = torch.stack(list(islice(pixels, size)))
            out[start : start + len(batch)] = self._run(self._images, batch)
        return out

    def text_tower(self) -> TextTower:
        """See `Encoder.text_tower`."""
        from clipbias.models.libraries.openclip_tower import OpenClipTower

        return OpenClipTower(self.name, self.module.text, self.tokens, self.encode_token_ids, self.device)

    def compile(self) -> None:
        """See `Encoder.compile`. Towers whose inputs have one shape are: images, and texts that are not trimmed."""
        self.module.visual.compile()
        if not self._trim:
            self.module.text.compile()
        # Results and kept features differ in rounding, so they say it.
        self.options = {**self.options, "compile": "true"}

    def _run(self, tower: Callable[[Tensor], Tensor], batch: Tensor) -> Tensor:
        """Features of a batch; one that does not fit into memory goes through in halves.

        Raises:
            UserError: a single input does not fit.
        """
        try:
            return self._features(tower, batch)
        except RuntimeError as error:
            # CUDA says it by a type of its own, the CPU's allocator only in words.
            if not isinstance(error, torch.OutOfMemoryError) and "not enough memory" not in str(error):
                raise
            if len(batch) == 1:
                raise UserError(f"{self.name}: one input does not fit into the memory of {self.device}") from error
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return torch.cat([self._run(tower, half) for half in batch.chunk(2)])

    def _features(self, tower: Callable[[Tensor], Tensor], batch: Tensor) -> Tensor:
        enabled = self.precision != "fp32"
        with (
            torch.inference_mode(),
            full_fp32(),
            torch.autocast(self.device.type, DTYPES[self.precision], enabled=enabled),
        ):
            features = tower(batch)
        return F.normalize(features.float(), dim=-1).cpu()

    def _moved(self, batch: Tensor) -> Tensor:
        return (
            batch.pin_memory().to(self.device, non_blocking=True)
            if self.device.type == "cuda"
            else batch.to(self.device)
        )

    def _images(self, pixels: Tensor) -> Tensor:
        return self.module.encode_image(self._moved(pixels))

    def _texts(self, ids: Tensor) -> Tensor:
        return self.module.encode_text(self._moved(ids))


def reads_clip_tokens(encoder: object) -> TypeGuard[ClipEncoder]:
    """Whether an encoder is of open_clip's modules with CLIP's tokenizer, so that its ids and towers are known."""
    return isinstance(encoder, ClipEncoder) and isinstance(encoder.tokens, ClipTokens)


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
