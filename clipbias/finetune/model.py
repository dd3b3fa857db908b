"""The model in training: open_clip's towers, a frozen and a trained position table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from clipbias.models.ids import move_pads
from clipbias.models.tokenizer import ClipTokens, Tokens
from clipbias.models.towers import class_features, is_causal, is_plain_vit, text_features

if TYPE_CHECKING:
    from open_clip.model import CustomTextCLIP

_GROUPS = 8
"""Groups of like length on a GPU: more pad less, and start more kernels (benchmarks/gpu.py training)."""

Features = tuple[Tensor, Tensor | None, Tensor | None, Tensor, Tensor | None]
"""Images, short captions, long captions [B, D], the temperature's inverse, and the bias of a sigmoid loss."""


class TrainModel(nn.Module):
    """Two towers and the position table in use.

    With ``keep`` given there are Long-CLIP's two tables: ``positional_embedding`` (frozen, its rows
    below ``keep`` are used) and ``positional_embedding_res`` (trained, the other rows are used);
    nothing else is added to the model. Without it the one table is trained as a whole.
    """

    def __init__(self, clip: CustomTextCLIP, keep: int | None, tokens: Tokens) -> None:
        """Take a model over for training.

        Args:
            clip: an open_clip ``CustomTextCLIP`` whose position table has its final length.
            keep: positions that stay as they are.
            tokens: the model's tokenizer: it says where texts begin, and whether EOT can be known by its id.
        """
        super().__init__()
        # A model that was loaded to be measured arrives frozen and in evaluation mode.
        self.clip = clip.train().requires_grad_(True)
        self.keep = keep
        self.text_start = tokens.text_start
        self.trims = isinstance(tokens, ClipTokens) and is_causal(clip.text)
        if keep is not None:
            table = clip.text.positional_embedding
            self.positional_embedding_res = nn.Parameter(table.detach().clone())
            table.requires_grad_(False)

    def forward(
        self, pixels: Tensor, short_ids: Tensor | None, n_pre: Tensor | None, long_ids: Tensor | None
    ) -> Features:
        """Everything that a loss needs, in one call, so that `DistributedDataParallel` sees every parameter in use."""
        short, long = self._texts(short_ids, n_pre, long_ids)
        images = self.encode_image(pixels)
        return images, short, long, self.clip.logit_scale.exp(), self.clip.logit_bias

    @property
    def device(self) -> torch.device:
        """Where the model lies."""
        return self.clip.logit_scale.device

    @property
    def sigmoid(self) -> bool:
        """Whether the model was made with SigLIP's loss; its bias says so."""
        return self.clip.logit_bias is not None

    def positions(self) -> Tensor:
        """The table in use [context, W]."""
        table = self.clip.text.positional_embedding
        if self.keep is None:
            return table
        return torch.cat([table[: self.keep], self.positional_embedding_res[self.keep :]])

    def _texts(
        self, short_ids: Tensor | None, n_pre: Tensor | None, long_ids: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None]:
        if short_ids is None or long_ids is None or self._packs():
            short = None if short_ids is None else self.encode_text(short_ids, n_pre)
            return short, None if long_ids is None else self.encode_text(long_ids)
        # Kernels start one by one: half as many of twice the size keep a GPU busier.
        moved = short_ids if n_pre is None else move_pads(short_ids, n_pre, self.text_start)
        short, long = self.encode_text(torch.cat([moved, long_ids])).split([len(short_ids), len(long_ids)])
        return short, long

    def encode_text(self, ids: Tensor, n_pre: Tensor | None = None) -> Tensor:
        """L2-normalised text features [B, D]; ``n_pre`` [B] of the trailing pads are moved before the text.

        Both come on the CPU: then the host never waits for the device. Causal towers do not run the pads that they
        cannot see; others see all of them.
        """
        if self.trims and self._packs():
            # Pads cost as much as text: those before it run once for all, and no others do.
            features = text_features(self.clip.text, ids, self.positions(), n_pre, groups=None)
        else:
            ids = ids if n_pre is None else move_pads(ids, n_pre, self.text_start)
            if self.trims:
                features = text_features(self.clip.text, ids, self.positions(), groups=_GROUPS)
            else:
                ids = ids.to(self.device, non_blocking=True)
                features = functional_call(self.clip.text, {"positional_embedding": self.positions()}, (ids,))
        return F.normalize(features.float(), dim=-1)

    def encode_image(self, pixels: Tensor) -> Tensor:
        """L2-normalised image features [B, D]."""
        visual = self.clip.visual
        features = class_features(visual, pixels) if is_plain_vit(visual) else visual(pixels)
        return F.normalize(features.float(), dim=-1)

    def _packs(self) -> bool:
        """Whether texts run by their lengths and pads once for all: less to compute, in more and smaller kernels."""
        return self.device.type == "cpu"
