"""Users' own models: any object that encodes texts and images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from clipbias.errors import UserError
from clipbias.models.encoder import PATHS, Encoder, opened
from clipbias.models.fp32 import full_fp32

if TYPE_CHECKING:
    from PIL import Image

_BATCH = 64


class WrappedEncoder(Encoder):
    """An `Encoder` around an object with ``encode_texts(list[str])`` and ``encode_images(list[PIL.Image])``.

    Both return [N, D], as tensor or array; they are normalised here. The object may also have
    ``context_length`` and ``token_lengths(texts)``, so that truncation can be reported,
    ``encode_token_ids(ids)`` and ``tokenize(texts)``, and a ``fingerprint`` that names its weights; without
    one, what it answers to a few fixed inputs stands for it.
    """

    def __init__(self, model: Any, name: str, device: torch.device, precision: str) -> None:
        """Raises `UserError` where the object lacks a function or answers with something else than features."""
        for function in ("encode_texts", "encode_images"):
            if not callable(getattr(model, function, None)):
                raise UserError(f"model {name}: a {type(model).__name__} without {function}(); see docs/models.md")
        self.model = model
        self.name = name
        self.family = "user"
        self.options = {}
        self.device = device
        self.precision = precision
        self.context_length = int(getattr(model, "context_length", 0))
        self.embed_dim = 0
        samples = self._samples()
        self.embed_dim = samples.shape[1]
        named = str(getattr(model, "fingerprint", ""))
        self.vouched = bool(named)
        self.fingerprint = named or _digest(samples)

    def _samples(self) -> Tensor:
        """Features of fixed inputs: two texts and a picture."""
        from clipbias.scenes import render, sample_scene

        texts = self.encode_texts(["a photo", "A large red circle under a blue sky. Below lies striped green ground."])
        return torch.cat([texts, self.encode_images([render(sample_scene("validation", 0), 192)])])

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """The model's own, if it has one."""
        return torch.as_tensor(self._own("tokenize")(list(texts)))

    def token_lengths(self, texts: Sequence[str]) -> np.ndarray:
        """The model's own counts, else zeros: nothing is known of what it cuts."""
        count = getattr(self.model, "token_lengths", None)
        return np.zeros(len(texts), dtype=np.int64) if count is None else np.asarray(count(list(texts)), dtype=np.int64)

    def encode_token_ids(self, ids: Tensor, batch_size: int | None = None) -> Tensor:
        """The model's own, if it has one."""
        encode = self._own("encode_token_ids")
        return self._batched(encode, list(ids.split(1)), batch_size, lambda part: torch.cat(list(part)))

    def encode_texts(self, texts: Sequence[str], batch_size: int | None = None) -> Tensor:
        """See `Encoder.encode_texts`."""
        return self._batched(self.model.encode_texts, list(texts), batch_size)

    def encode_images(self, images: Sequence[Image.Image | str | Path], batch_size: int | None = None) -> Tensor:
        """See `Encoder.encode_images`."""
        return self._batched(
            lambda part: self.model.encode_images([opened(i).convert("RGB") for i in part]), images, batch_size
        )

    def _parts(self) -> dict[str, Any]:
        return {"images": {"paths": PATHS}, "tokens": {"kind": "the model's own"}}

    def _own(self, function: str) -> Callable[[Any], Any]:
        own = getattr(self.model, function, None)
        if own is None:
            raise UserError(f"model {self.name} has no {function}(); this probe needs it")
        return own

    def _batched(
        self,
        encode: Callable[[Any], Any],
        items: Sequence[Any],
        batch_size: int | None,
        join: Callable[[Sequence[Any]], Any] = list,
    ) -> Tensor:
        size = batch_size or _BATCH
        parts = [torch.empty(0, self.embed_dim)] if not len(items) else []
        for start in range(0, len(items), size):
            chunk = items[start : start + size]
            with torch.inference_mode(), full_fp32():
                features = torch.as_tensor(encode(join(chunk))).detach().float().cpu()
            if features.ndim != 2 or len(features) != len(chunk):
                raise UserError(
                    f"model {self.name}: {len(chunk)} inputs gave features of shape {tuple(features.shape)}; "
                    f"expected ({len(chunk)}, D)"
                )
            parts.append(F.normalize(features, dim=-1))
        return torch.cat(parts)


def _digest(features: Tensor) -> str:
    """A digest of features, to three decimals: the same on machines that round differently."""
    return hashlib.sha256((features * 1000).round().to(torch.int32).numpy().tobytes()).hexdigest()[:16]
