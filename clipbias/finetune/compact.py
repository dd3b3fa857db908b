"""A token table of the rows in use: a dense gradient of all 49,408 rows costs a CPU more than the optimiser."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CompactTokens(nn.Module):
    """A token table of some rows only; other ids are an error.

    Rows that no text uses get no gradient, so leaving them out changes nothing but their weight decay
    (`clipbias.finetune.runs` says where it is used).
    """

    def __init__(self, full: nn.Embedding, ids: Iterable[int]) -> None:
        super().__init__()
        device = full.weight.device
        kept = torch.tensor(sorted(set(ids))).to(device)
        rows = torch.full((full.num_embeddings,), -1).to(device)
        rows[kept] = torch.arange(len(kept)).to(device)
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("ids", kept, persistent=False)
        self.weight = nn.Parameter(full.weight.detach()[kept].clone())

    def forward(self, ids: Tensor) -> Tensor:
        """Rows [..., W] of ``ids``; a token outside the table raises IndexError."""
        return F.embedding(self.rows[ids], self.weight)  # type: ignore[index]

    def full(self) -> Tensor:
        """The table with all rows; those left out are zeros."""
        out = self.weight.new_zeros(len(self.rows), self.weight.shape[1])  # type: ignore[arg-type]
        return out.index_copy(0, self.ids, self.weight)  # type: ignore[arg-type]
