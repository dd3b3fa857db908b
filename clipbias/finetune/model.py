"""The model in training: open_clip's towers, a frozen and a trained position table."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipbias.models.towers import bucketed_features


class TrainModel(nn.Module):
    """Two towers and the position table in use.

    With ``keep`` given there are Long-CLIP's two tables: ``positional_embedding`` (frozen, its rows
    below ``keep`` are used) and ``positional_embedding_res`` (trained, the other rows are used);
    nothing else is added to the model. Without it the one table is trained as a whole.
    """

    def __init__(self, clip: nn.Module, keep: int | None) -> None:
        """``clip``: an open_clip ``CustomTextCLIP`` whose position table has its final length."""
        super().__init__()
        # A model that was loaded to be measured arrives frozen and in evaluation mode.
        self.clip = clip.train().requires_grad_(True)
        self.keep = keep
        if keep is not None:
            table = clip.text.positional_embedding
            self.positional_embedding_res = nn.Parameter(table.detach().clone())
            table.requires_grad_(False)

    def forward(
        self, pixels: Tensor, short_ids: Tensor, n_pre: Tensor | None, long_ids: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
        """Features of images, short and long captions [B, D], and the temperature's inverse.

        All in one call, so that `DistributedDataParallel` sees every parameter in use.
        """
        long = self.encode_text(long_ids) if long_ids is not None else None
        return self.encode_image(pixels), self.encode_text(short_ids, n_pre), long, self.clip.logit_scale.exp()

    def positions(self) -> Tensor:
        """The table in use [context, W]."""
        table = self.clip.text.positional_embedding
        if self.keep is None:
            return table
        return torch.cat([table[: self.keep], self.positional_embedding_res[self.keep :]])

    def encode_text(self, ids: Tensor, n_pre: Tensor | None = None) -> Tensor:
        """L2-normalised text features [B, D]; ``n_pre`` as in `prefixed_features`."""
        return F.normalize(bucketed_features(self.clip.text, ids, n_pre, self.positions()).float(), dim=-1)

    def encode_image(self, pixels: Tensor) -> Tensor:
        """L2-normalised image features [B, D]."""
        return F.normalize(self.clip.visual(pixels).float(), dim=-1)
