"""The encoder around open_clip's modules, which every family is read into."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch import Tensor

from clipbias.models.compute import Pixels, TorchEncoder
from clipbias.models.encoder import PATHS
from clipbias.models.ids import eot_positions
from clipbias.models.preprocessing import Preprocessing
from clipbias.models.tokenizer import ClipTokens, Tokens
from clipbias.models.tower import TextTower
from clipbias.models.towers import class_features, compile_towers, is_causal, is_plain_vit, text_features

if TYPE_CHECKING:
    from open_clip.model import CustomTextCLIP
    from PIL import Image


class ClipEncoder(TorchEncoder):
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
        self.trims = isinstance(tokens, ClipTokens) and is_causal(module.text)
        self.embed_dim = int(
            self.run(lambda part: module.encode_text(self.moved(part["ids"])), {"ids": tokens([""])}).shape[1]
        )

    def _parts(self) -> dict[str, Any]:
        return {"images": self.transform.record() | {"paths": PATHS}, "tokens": self.tokens.record()}

    def text_features(self, ids: Tensor) -> Tensor:
        """See `TorchEncoder.text_features`; a causal tower read at EOT wants one EOT in each row.

        Raises:
            ValueError: a causal tower got a row without EOT.
        """
        return text_features(self.module.text, ids) if self.trims else self.module.encode_text(self.moved(ids))

    def image_features(self, pixels: Pixels) -> Tensor:
        """See `TorchEncoder.image_features`."""
        moved, visual = self.moved(pixels["pixels"]), self.module.visual
        return class_features(visual, moved) if is_plain_vit(visual) else self.module.encode_image(moved)

    def pixels(self, image: Image.Image) -> Pixels:
        """See `TorchEncoder.pixels`."""
        return {"pixels": self.transform(image)}

    def last_needed(self, ids: Tensor) -> Tensor:
        """See `TorchEncoder.last_needed`."""
        return eot_positions(ids)

    def text_tower(self) -> TextTower:
        """See `Encoder.text_tower`."""
        from clipbias.models.libraries.openclip_text import WrappedText
        from clipbias.models.libraries.openclip_tower import OpenClipTower
        from clipbias.models.libraries.transformers_tower import TransformersTower

        if not hasattr(self.module.text, "token_embedding"):
            text = WrappedText(self.name, self.device, self.tokens, self.module.text, self.encode_token_ids)
            return TransformersTower(text)
        return OpenClipTower(self.name, self.module.text, self.tokens, self.encode_token_ids, self.device)

    def as_clip(self) -> ClipEncoder:
        """See `Encoder.as_clip`."""
        return self

    def compile(self) -> None:
        """See `Encoder.compile`."""
        compile_towers(self.module, self.trims)
        # Results and cached embeddings differ in rounding, so they say it.
        self.options = {**self.options, "compile": "true"}


def reads_clip_tokens(encoder: object) -> TypeGuard[ClipEncoder]:
    """Whether an encoder is of open_clip's modules with CLIP's tokenizer, so that its ids and towers are known."""
    return isinstance(encoder, ClipEncoder) and isinstance(encoder.tokens, ClipTokens)
