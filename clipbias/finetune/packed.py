"""The text tower's forward pass in training on a CPU: only what the features depend on, and no padding.

Exact up to rounding, like `clipbias.models.towers`, and on a CPU much cheaper:

- The texts of a batch are one row of tokens behind each other. Linear layers, norms and MLPs see no padding; attention
  runs for all texts of one length at once, which needs none either.
- A token table of the rows in use (`CompactTokens`): a dense gradient of all 49,408 rows costs more than the optimiser.

Shapes: B texts, T tokens of all texts, W width, H heads. A GPU would wait for the many small attention calls.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipbias.models.towers import PAD, SOT, eot_positions, finish

if TYPE_CHECKING:
    from open_clip.transformer import ResidualAttentionBlock, TextTransformer


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


def _heads(x: Tensor, count: int, heads: int) -> Tensor:
    """[count * L, W] -> [count, H, L, W / H]."""
    return x.unflatten(0, (count, -1)).unflatten(-1, (heads, -1)).transpose(1, 2)


def _flat(x: Tensor) -> Tensor:
    """[B, H, L, d] -> [B * L, W]."""
    return x.transpose(1, 2).flatten(2).flatten(0, 1)


class _Packing:
    """Where each text lies in the row of tokens: sorted by length, those of one length side by side.

    Attributes:
        order: the texts [B] in the order in which they lie.
        groups: (texts, tokens of each) for every length that occurs.
        last: where each text's EOT lies [B].
        masks: for each group what its texts see of the prefix and of themselves [n, 1, L, P + L]; empty without one.
    """

    def __init__(self, ids: Tensor, n_pre: Tensor | None) -> None:
        shift = 0 if n_pre is None else 1  # SOT is the prefix's
        lengths = eot_positions(ids) + 1 - shift
        self.order = torch.argsort(lengths, stable=True)
        sizes, counts = torch.unique_consecutive(lengths[self.order], return_counts=True)
        self.groups = list(zip(counts.tolist(), sizes.tolist(), strict=True))
        self.last = lengths[self.order].cumsum(0) - 1
        steps = torch.arange(ids.shape[1] - shift)
        own = steps[None] < lengths[self.order][:, None]
        self.ids = ids[self.order, shift:][own]
        starts = torch.zeros_like(lengths) if n_pre is None else 1 + n_pre[self.order]
        self.places = (starts[:, None] + steps[None])[own]
        self.masks: list[Tensor] = []
        if n_pre is not None:
            for pads, (_, size) in zip(n_pre[self.order].split(counts.tolist()), self.groups, strict=True):
                width = 1 + int(pads.max())
                sees = (torch.arange(width)[None] <= pads[:, None])[:, None].expand(-1, size, -1)
                mine = torch.ones(size, size, dtype=torch.bool).tril().expand(len(pads), -1, -1)
                self.masks.append(torch.cat([sees, mine], dim=2)[:, None])

    def sizes(self) -> list[int]:
        """Tokens of each group."""
        return [count * size for count, size in self.groups]


def packed_features(tower: TextTransformer, ids: Tensor, positions: Tensor, n_pre: Tensor | None = None) -> Tensor:
    """Projected, not yet normalised features [B, D]: those of `clipbias.models.towers.bucketed_features`.

    Args:
        tower: a causal ``TextTransformer`` that pools at EOT.
        ids: ``[SOT, text, EOT, pads]`` [B, L].
        positions: the position table [>= L, W].
        n_pre: how many pads to put behind SOT [B].
    """
    packing = _Packing(ids, n_pre)
    prefix = 0
    tokens, places = packing.ids, packing.places
    if n_pre is not None:
        # SOT and the pads behind it see nothing that follows: one copy serves all texts.
        prefix = 1 + int(n_pre.max())
        shared = torch.full((prefix,), PAD)
        shared[0] = SOT
        tokens, places = torch.cat([shared, tokens]), torch.cat([torch.arange(prefix), places])
    x = tower.token_embedding(tokens) + F.embedding(places, positions)
    *blocks, final = tower.transformer.resblocks
    for block in blocks:
        projected = F.linear(block.ln_1(x), block.attn.in_proj_weight, block.attn.in_proj_bias)
        x = finish(block, x, _attend(projected.split([prefix, *packing.sizes()]), packing, block.attn.num_heads))
    pooled = _last_block(final, x, packing, prefix)
    pooled = tower.ln_final(pooled)
    projection = tower.text_projection
    if projection is not None:
        pooled = projection(pooled) if isinstance(projection, nn.Linear) else pooled @ projection
    return pooled[torch.argsort(packing.order)]


def _attend(parts: tuple[Tensor, ...], packing: _Packing, heads: int) -> Tensor:
    """Causal attention of the prefix and of every group; ``parts`` are their queries, keys and values [_, 3W]."""
    out = []
    shared, *rest = parts
    if packing.masks:
        q, k, v = (_heads(t, 1, heads) for t in shared.chunk(3, dim=1))
        out.append(_flat(F.scaled_dot_product_attention(q, k, v, is_causal=True)))
    for number, (part, (count, _)) in enumerate(zip(rest, packing.groups, strict=True)):
        own_q, own_k, own_v = (_heads(t, count, heads) for t in part.chunk(3, dim=1))
        if packing.masks:
            mask = packing.masks[number]
            width = mask.shape[-1] - own_k.shape[2]
            own_k, own_v = _behind(k, own_k, width), _behind(v, own_v, width)
            out.append(_flat(F.scaled_dot_product_attention(own_q, own_k, own_v, attn_mask=mask)))
        else:
            out.append(_flat(F.scaled_dot_product_attention(own_q, own_k, own_v, is_causal=True)))
    return torch.cat(out)


def _behind(shared: Tensor, own: Tensor, width: int) -> Tensor:
    """Keys or values of each text [n, H, L, d] behind the first ``width`` of the prefix [1, H, P, d]."""
    return torch.cat([shared[:, :, :width].expand(len(own), -1, -1, -1), own], dim=2)


def _last_block(block: ResidualAttentionBlock, x: Tensor, packing: _Packing, prefix: int) -> Tensor:
    """The last block at every text's EOT [B, W], in the packing's order."""
    width, heads = x.shape[1], block.attn.num_heads
    weight, bias = block.attn.in_proj_weight, block.attn.in_proj_bias
    normed = block.ln_1(x)
    ends = prefix + packing.last
    queries = F.linear(normed[ends], weight[:width], bias[:width])
    shared, *rest = F.linear(normed, weight[width:], bias[width:]).split([prefix, *packing.sizes()])
    k, v = (_heads(t, 1, heads) for t in shared.chunk(2, dim=1)) if prefix else (shared, shared)
    mixed = []
    counts = [count for count, _ in packing.groups]
    for number, (part, query) in enumerate(zip(rest, queries.split(counts), strict=True)):
        own_k, own_v = (_heads(t, counts[number], heads) for t in part.chunk(2, dim=1))
        mask = None  # EOT sees all of its own text
        if packing.masks:
            mask = packing.masks[number][:, :, -1:]
            seen = mask.shape[-1] - own_k.shape[2]
            own_k, own_v = _behind(k, own_k, seen), _behind(v, own_v, seen)
        mixed.append(_flat(F.scaled_dot_product_attention(_heads(query, len(query), heads), own_k, own_v, mask)))
    return finish(block, x[ends], torch.cat(mixed))
