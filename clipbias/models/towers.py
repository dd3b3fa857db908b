"""Forward passes through open_clip's towers that skip what the feature cannot see.

In a causal tower the feature is read at EOT, so tokens behind it cost time and change nothing. The texts of a batch lie
behind each other in one row of tokens, in groups of like length, each cut at its longest text: linear layers, norms and
MLPs run once for all, attention once for each group. Pads *between* SOT and the text (DeBias-CLIP, section 3) are the
same for every caption, so their states can be computed once and shared. The last block of either tower is computed at
the token that is pooled (EOT, class token); of the others only keys and values count. All of it is exact up to
rounding; text towers that are not causal are never cut.

Shapes: B captions or images, L tokens, T tokens of all texts, W width, H heads, D width of the features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

if TYPE_CHECKING:
    from open_clip.model import CustomTextCLIP
    from open_clip.transformer import ResidualAttentionBlock, TextTransformer, VisionTransformer

SOT, EOT, PAD = 49406, 49407, 0
_QUICK = 1.702


def is_causal(tower: TextTransformer) -> bool:
    """Whether the tower is causal and pools at EOT, so that trimming is exact.

    CoCa's reads a class token behind everything instead; towers with other blocks than CLIP's compute otherwise.
    """
    if getattr(tower, "attn_mask", None) is None or getattr(tower, "pool_type", "") not in ("argmax", "eos"):
        return False
    return has_plain_blocks(tower) and getattr(tower, "cls_emb", None) is None


def has_plain_blocks(tower: nn.Module) -> bool:
    """Whether the tower is made of CLIP's blocks and shows them."""
    blocks = getattr(getattr(tower, "transformer", None), "resblocks", None)
    return blocks is not None and all(
        type(block).__name__ == "ResidualAttentionBlock" and type(block.attn) is nn.MultiheadAttention
        for block in blocks
    )


def has_quick_gelu(tower: TextTransformer) -> bool:
    """Whether a tower of CLIP's blocks has QuickGELU, as OpenAI's; OpenCLIP's own have GELU."""
    return type(tower.transformer.resblocks[0].mlp.gelu).__name__ == "QuickGELU"


def eot_positions(ids: Tensor) -> Tensor:
    """Position [B] of the one EOT of each row of ``ids`` [B, L].

    Raises:
        ValueError: a row has no EOT; its feature would silently be read elsewhere.
    """
    hit = ids == EOT
    if not bool(hit.any(dim=1).all()):
        row = int((~hit.any(dim=1)).nonzero()[0])
        raise ValueError(f"row {row} of the token ids has no end-of-text token ({EOT})")
    return hit.int().argmax(dim=1)


def move_pads(ids: Tensor, n_pre: Tensor, text_start: int) -> Tensor:
    """Move ``n_pre`` [B] of each row's trailing pads before its text (DeBias-CLIP, section 3).

    Args:
        ids: ``[start token, text, end token, pads]`` [B, L]; at least ``n_pre`` pads in a row.
        n_pre: pads to move [B].
        text_start: where texts begin: 1 behind a start token, 0 without one.
    """
    length = ids.shape[1] - text_start
    # Turning a row's part behind the start token by n_pre carries the last n_pre pads to its front.
    source = (torch.arange(length, device=ids.device)[None] - n_pre[:, None]) % length
    return torch.cat([ids[:, :text_start], ids[:, text_start:].gather(1, source)], dim=1)


def is_plain_vit(visual: nn.Module) -> bool:
    """Whether `class_features` computes the same as this image tower: a ViT read at its class token."""
    return (
        type(visual).__name__ == "VisionTransformer"
        and getattr(visual, "pool_type", "") == "tok"
        and getattr(visual, "attn_pool", None) is None
        and not getattr(visual, "output_tokens", True)
        and has_plain_blocks(visual)
    )


def qkv(block: ResidualAttentionBlock, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values [B, H, L, W/H] of one residual block for ``x`` [B, L, W]."""
    heads = block.attn.num_heads
    projected = F.linear(block.ln_1(x), block.attn.in_proj_weight, block.attn.in_proj_bias)
    q, k, v = projected.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    return q, k, v


def _mlp(block: ResidualAttentionBlock, x: Tensor) -> Tensor:
    """A block's MLP; QuickGELU ``x * sigmoid(1.702 x)`` as ``silu(1.702 x) / 1.702``, one kernel instead of three.

    The two factors go into the neighbouring weights.
    """
    first, act, last = block.mlp
    if type(act).__name__ != "QuickGELU":
        return block.mlp(x)
    hidden = F.silu(F.linear(x, _QUICK * first.weight, _QUICK * first.bias))
    return F.linear(hidden, last.weight / _QUICK, last.bias)


def enter(block: ResidualAttentionBlock, x: Tensor) -> Tensor:
    """A block's queries, keys and values side by side [..., 3W] of ``x`` [..., W]."""
    return F.linear(block.ln_1(x), block.attn.in_proj_weight, block.attn.in_proj_bias)


def finish(block: ResidualAttentionBlock, x: Tensor, mixed: Tensor) -> Tensor:
    """Output projection and MLP of a block on ``x`` [..., W]; ``mixed`` [..., W] is the attention's result."""
    x = x + block.ls_1(block.attn.out_proj(mixed))
    return x + block.ls_2(_mlp(block, block.ln_2(x)))


def finish_block(block: ResidualAttentionBlock, x: Tensor, mixed: Tensor) -> Tensor:
    """`finish` of ``x`` [B, L, W] with the attention's result by heads [B, H, L, W/H]."""
    return finish(block, x, mixed.transpose(1, 2).flatten(2))


def compile_blocks(tower: nn.Module, backend: str = "inductor") -> None:
    """Let ``torch.compile`` make `text_features` and `class_features` of this tower faster.

    What stands before and behind the attention is compiled, once for all blocks and all numbers and lengths of texts,
    so that no length waits for a compiler. The last block is not compiled.
    """
    compiled: Any = {piece: torch.compile(piece, backend=backend, dynamic=True) for piece in (enter, finish)}
    tower.compiled = compiled


def compile_towers(clip: CustomTextCLIP, trims: bool) -> None:
    """Let ``torch.compile`` make both towers faster: by blocks where the functions of this module run them.

    Args:
        clip: the model.
        trims: whether `text_features` runs its text tower.
    """
    for tower, by_blocks in ((clip.visual, is_plain_vit(clip.visual)), (clip.text, trims)):
        if by_blocks:
            compile_blocks(tower)
        else:
            tower.compile()


Attend = Callable[[Tensor, int], Tensor]
"""Attention's result [T, W] of queries, keys and values side by side [T, 3W] and the number of heads."""


def _through(tower: nn.Module, blocks: Sequence[nn.Module], x: Tensor, attend: Attend) -> Tensor:
    """``x`` [T, W] through these blocks; a tower set to checkpoint does not keep their activations for gradients."""
    compiled: dict[Callable[..., Any], Callable[..., Any]] = getattr(tower, "compiled", {})
    first: Callable[..., Tensor] = compiled.get(enter, enter)
    last: Callable[..., Tensor] = compiled.get(finish, finish)

    def run(block: Any, x: Tensor) -> Tensor:
        return last(block, x, attend(first(block, x), block.attn.num_heads))

    kept: Any = partial(checkpoint, run, use_reentrant=False)
    checkpoints = getattr(tower.transformer, "grad_checkpointing", False) and torch.is_grad_enabled()
    for block in blocks:
        x = kept(block, x) if checkpoints else run(block, x)
    return x


def _heads(x: Tensor, count: int, heads: int) -> Tensor:
    """[count * L, W] -> [count, H, L, W / H]."""
    return x.unflatten(0, (count, -1)).unflatten(-1, (heads, -1)).transpose(1, 2)


def _flat(x: Tensor) -> Tensor:
    """[B, H, L, W / H] -> [B * L, W]."""
    return x.transpose(1, 2).flatten(2).flatten(0, 1)


def _attention(part: Tensor, count: int, heads: int, causal: bool) -> Tensor:
    """Attention's result [count * L, W] of queries, keys and values side by side [count * L, 3W]."""
    q, k, v = (_heads(t, count, heads) for t in part.chunk(3, dim=1))
    return _flat(F.scaled_dot_product_attention(q, k, v, is_causal=causal))


def _behind(shared: Tensor, own: Tensor, width: int) -> Tensor:
    """Keys or values of each text [n, H, L, d] behind the first ``width`` of the prefix [1, H, P, d]."""
    return torch.cat([shared[:, :, :width].expand(len(own), -1, -1, -1), own], dim=2)


class _Row:
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

    def to(self, device: torch.device) -> _Row:
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
            parts = (_attention(part, count, heads, True) for part, (count, _) in zip(rest, self.groups, strict=True))
            return torch.cat(list(parts)) if len(rest) > 1 else next(parts)
        out = [_attention(shared, 1, heads, True)]
        keys, values = (_heads(t, 1, heads) for t in shared.chunk(3, dim=1)[1:])
        for part, (count, size), mask in zip(rest, self.groups, self.masks, strict=True):
            q, k, v = (_heads(t, count, heads) for t in part.chunk(3, dim=1))
            width = mask.shape[-1] - size
            k, v = _behind(keys, k, width), _behind(values, v, width)
            out.append(_flat(F.scaled_dot_product_attention(q, k, v, attn_mask=mask)))
        return torch.cat(out)

    def attend_last(self, queries: Tensor, projected: Tensor, heads: int) -> Tensor:
        """Attention's result [B, W] of one query of each text [B, W]; keys and values side by side [T, 2W]."""
        shared, *rest = self.split(projected)
        counts, out = [count for count, _ in self.groups], []
        for query, part, (count, size), end in zip(queries.split(counts), rest, self.groups, self.ends, strict=True):
            k, v = (_heads(t, count, heads) for t in part.chunk(2, dim=1))
            if self.prefix:
                assert end is not None
                before = (_heads(t, 1, heads) for t in shared.chunk(2, dim=1))
                k, v = (_behind(t, own, end.shape[-1] - size) for t, own in zip(before, (k, v), strict=True))
            out.append(_flat(F.scaled_dot_product_attention(_heads(query, count, heads), k, v, attn_mask=end)))
        return torch.cat(out)


def _last_block(
    block: ResidualAttentionBlock, x: Tensor, places: Tensor, attend: Callable[[Tensor, Tensor, int], Tensor]
) -> Tensor:
    """A tower's last block at the pooled tokens alone [B, W]; ``places`` [B] in ``x`` [T, W]."""
    attn, width = block.attn, x.shape[1]
    queries = F.linear(block.ln_1(x[places]), attn.in_proj_weight[:width], attn.in_proj_bias[:width])
    others = F.linear(block.ln_1(x), attn.in_proj_weight[width:], attn.in_proj_bias[width:])
    return finish(block, x[places], attend(queries, others, attn.num_heads))


def text_features(
    tower: TextTransformer,
    ids: Tensor,
    positions: Tensor | None = None,
    n_pre: Tensor | None = None,
    groups: int | None = 1,
) -> Tensor:
    """Projected, not yet normalised features [B, D] of a causal tower.

    Args:
        tower: an open_clip ``TextTransformer`` for which `is_causal` holds.
        ids: ``[SOT, text, EOT, pads]`` [B, L]; on the CPU: then the host never waits for the tower's device.
        positions: position table [>= L, W] to use instead of the tower's own.
        n_pre: how many pads to put behind SOT [B], without running them B times; ``n_pre`` and the text must fit the
            position table.
        groups: of like length; None: as many as there are lengths, so that no text is padded.

    Raises:
        ValueError: a row has no EOT.
    """
    table = tower.positional_embedding if positions is None else positions
    row = _Row(ids, n_pre, groups).to(table.device)
    # Positions behind a caption's EOT may point past the table; they are never read, so clamping is safe.
    x = tower.token_embedding(row.ids) + F.embedding(row.places.clamp(max=len(table) - 1), table)
    *blocks, last = tower.transformer.resblocks
    x = _through(tower, blocks, x, row.attend)
    pooled = _last_block(last, x, row.last, row.attend_last)
    with _precise(x.device):
        pooled = tower.ln_final(pooled.float())
        projection = tower.text_projection
        if projection is not None:
            pooled = projection(pooled) if isinstance(projection, nn.Linear) else pooled @ projection
    return pooled[torch.argsort(row.order)]


def class_features(visual: VisionTransformer, pixels: Tensor) -> Tensor:
    """Projected, not yet normalised features [B, D] of an open_clip ViT for which `is_plain_vit` holds.

    Args:
        visual: the image tower.
        pixels: [B, 3, height, width] on its device.
    """
    x = visual._embeds(pixels)
    count, length = x.shape[:2]
    *blocks, last = visual.transformer.resblocks
    x = _through(visual, blocks, x.flatten(0, 1), lambda part, heads: _attention(part, count, heads, False))
    places = torch.arange(0, count * length, length, device=x.device)

    def attend(queries: Tensor, others: Tensor, heads: int) -> Tensor:
        k, v = (_heads(t, count, heads) for t in others.chunk(2, dim=1))
        return _flat(F.scaled_dot_product_attention(_heads(queries, count, heads), k, v))

    pooled = _last_block(last, x, places, attend)
    with _precise(x.device):
        pooled = visual.ln_post(pooled.float())
        return pooled if visual.proj is None else pooled @ visual.proj


def _precise(device: torch.device) -> torch.autocast:
    """A block in fp32: the projection of the one pooled token costs nothing, and bf16 would round each number of the
    feature to eight bits."""
    return torch.autocast(device.type, enabled=False)
