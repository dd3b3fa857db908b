"""The texts of a batch behind each other in one row of tokens.

Linear layers, norms and MLPs run once for all of them, attention once for each group of like length.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from clipbias.models.blocks import attention, by_heads, flat
from clipbias.models.ids import PAD, SOT, eot_positions


def _behind(shared: Tensor, own: Tensor, width: int) -> Tensor:
    """Keys or values of each text [n, H, L, d] behind the first ``width`` of the prefix [1, H, P, d]."""
    return torch.cat([shared[:, :, :width].expand(len(own), -1, -1, -1), own], dim=2)


class Row:
    """The texts of a batch behind each other, sorted by length; in a group all take the tokens of the longest.

    Attributes:
        order: the texts [B] in the order in which they lie.
        groups: (texts, tokens of each) of every group.
        prefix: the number of tokens before the texts that all share.
        ids, places: token and position of all tokens [T], of the prefix first.
        last: where each text's EOT lies [B].
        masks: for each group what its texts see of the prefix and of themselves [n, 1, L, P + L]; empty without one.
        ends: for each group what its EOTs see of them [n, 1, 1, P + L]; None: all.
    """

    def __init__(self, ids: Tensor, n_pre: Tensor | None, groups: int | None) -> None:
        shift = 0 if n_pre is None else 1  # SOT is the prefix's
        lengths = eot_positions(ids) + 1 - shift
        self.order = torch.argsort(lengths, stable=True)
        lengths = lengths[self.order]
        if groups is None:
            counts = torch.unique_consecutive(lengths, return_counts=True)[1].tolist()
        else:
            counts = [len(part) for part in lengths.chunk(groups)]
        sizes = [int(part[-1]) for part in lengths.split(counts)]
        self.groups = list(zip(counts, sizes, strict=True))
        taken = torch.tensor(sizes).repeat_interleave(torch.tensor(counts))
        steps = torch.arange(ids.shape[1] - shift)
        own = steps[None] < taken[:, None]
        self.ids = ids[self.order, shift:][own]
        starts = torch.zeros_like(lengths) if n_pre is None else 1 + n_pre[self.order]
        self.places = (starts[:, None] + steps[None])[own]
        self.prefix, self.masks = 0, list[Tensor]()
        self.ends: list[Tensor | None] = []
        for (count, size), pads, long in zip(self.groups, starts.split(counts), lengths.split(counts), strict=True):
            end = (steps[None, :size] < long[:, None])[:, None, None]
            if n_pre is None:
                self.ends.append(None if int(long[0]) == size else end)
                continue
            sees = (torch.arange(int(pads.max()))[None] < pads[:, None])[:, None, None]
            mine = torch.ones(size, size, dtype=torch.bool).tril().expand(count, 1, -1, -1)
            self.masks.append(torch.cat([sees.expand(-1, -1, size, -1), mine], dim=3))
            self.ends.append(torch.cat([sees, end], dim=3))
        if n_pre is not None:
            # SOT and the pads behind it see nothing that follows: one copy serves all texts.
            self.prefix = 1 + int(n_pre.max())
            shared = torch.full((self.prefix,), PAD)
            shared[0] = SOT
            self.ids = torch.cat([shared, self.ids])
            self.places = torch.cat([torch.arange(self.prefix), self.places])
        self.last = self.prefix + taken.cumsum(0) - taken + lengths - 1

    def to(self, device: torch.device) -> Row:
        """The same on a device; the host does not wait for it."""

        def moved(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=True)

        self.order, self.ids, self.places, self.last = map(moved, (self.order, self.ids, self.places, self.last))
        self.masks = list(map(moved, self.masks))
        self.ends = [None if end is None else moved(end) for end in self.ends]
        return self

    def split(self, row: Tensor) -> tuple[Tensor, ...]:
        """What belongs to the prefix and to every group of a row [T, ...]."""
        return row.split([self.prefix, *(count * size for count, size in self.groups)])

    def attend(self, projected: Tensor, heads: int) -> Tensor:
        """See `Attend`: of the prefix, and of every text on what it sees."""
        shared, *rest = self.split(projected)
        if not self.masks:
            parts = (attention(part, count, heads, True) for part, (count, _) in zip(rest, self.groups, strict=True))
            return torch.cat(list(parts)) if len(rest) > 1 else next(parts)
        out = [attention(shared, 1, heads, True)]
        keys, values = (by_heads(t, 1, heads) for t in shared.chunk(3, dim=1)[1:])
        for part, (count, size), mask in zip(rest, self.groups, self.masks, strict=True):
            q, k, v = (by_heads(t, count, heads) for t in part.chunk(3, dim=1))
            width = mask.shape[-1] - size
            k, v = _behind(keys, k, width), _behind(values, v, width)
            out.append(flat(F.scaled_dot_product_attention(q, k, v, attn_mask=mask)))
        return torch.cat(out)

    def attend_last(self, queries: Tensor, projected: Tensor, heads: int) -> Tensor:
        """Attention's result [B, W] of one query of each text [B, W]; keys and values side by side [T, 2W]."""
        shared, *rest = self.split(projected)
        counts, out = [count for count, _ in self.groups], []
        for query, part, (count, size), end in zip(queries.split(counts), rest, self.groups, self.ends, strict=True):
            k, v = (by_heads(t, count, heads) for t in part.chunk(2, dim=1))
            if self.prefix:
                assert end is not None
                before = (by_heads(t, 1, heads) for t in shared.chunk(2, dim=1))
                k, v = (_behind(t, own, end.shape[-1] - size) for t, own in zip(before, (k, v), strict=True))
            out.append(flat(F.scaled_dot_product_attention(by_heads(query, count, heads), k, v, attn_mask=end)))
        return torch.cat(out)
