"""Forward passes through open_clip's towers that skip what the feature cannot see.

In a causal tower the feature is read at EOT, so tokens behind it cost time and change nothing:
a batch is cut at its longest EOT. Pad ids placed *between* SOT and the text (DeBias-CLIP,
section 3) are the same for every caption, so their hidden states are computed once for the batch
and shared. The last block of either tower is computed at the token that is pooled (EOT, class token); of the others
only keys and values count. All of it is exact up to rounding; non-causal text towers are never trimmed.

Shapes: B captions or images, L tokens, W width, H heads, D width of the features.
"""

from __future__ import annotations

from collections.abc import Callable
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


def mlp(block: ResidualAttentionBlock, x: Tensor) -> Tensor:
    """A block's MLP; QuickGELU ``x * sigmoid(1.702 x)`` as ``silu(1.702 x) / 1.702``, one kernel instead of three.

    The two factors go into the neighbouring weights.
    """
    first, act, last = block.mlp
    if type(act).__name__ != "QuickGELU":
        return block.mlp(x)
    hidden = F.silu(F.linear(x, _QUICK * first.weight, _QUICK * first.bias))
    return F.linear(hidden, last.weight / _QUICK, last.bias)


def finish(block: ResidualAttentionBlock, x: Tensor, mixed: Tensor) -> Tensor:
    """Output projection and MLP of a block on ``x`` [..., W]; ``mixed`` [..., W] is the attention's result."""
    x = x + block.ls_1(block.attn.out_proj(mixed))
    return x + block.ls_2(mlp(block, block.ln_2(x)))


def finish_block(block: ResidualAttentionBlock, x: Tensor, mixed: Tensor) -> Tensor:
    """`finish` of ``x`` [B, L, W] with the attention's result by heads [B, H, L, W/H]."""
    return finish(block, x, mixed.transpose(1, 2).flatten(2))


def _project(tower: TextTransformer, pooled: Tensor) -> Tensor:
    projection = tower.text_projection
    if projection is None:
        return pooled
    return projection(pooled) if isinstance(projection, nn.Linear) else pooled @ projection


def _causal_block(block: ResidualAttentionBlock, x: Tensor) -> Tensor:
    q, k, v = qkv(block, x)
    return finish_block(block, x, F.scaled_dot_product_attention(q, k, v, is_causal=True))


def _open_block(block: ResidualAttentionBlock, x: Tensor) -> Tensor:
    q, k, v = qkv(block, x)
    return finish_block(block, x, F.scaled_dot_product_attention(q, k, v))


def _behind(shared: Tensor, own: Tensor) -> Tensor:
    """Keys or values of each text [B, H, L, d] behind those of the shared prefix [1, H, P, d]."""
    return torch.cat([shared.expand(len(own), -1, -1, -1), own], dim=2)


def _prefixed_block(block: ResidualAttentionBlock, x: Tensor, prefix: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """A block on each text [B, L, W] behind the one shared prefix [1, P, W]; ``mask`` [B, 1, L, P + L]."""
    pq, pk, pv = qkv(block, prefix)
    q, k, v = qkv(block, x)
    x = finish_block(block, x, F.scaled_dot_product_attention(q, _behind(pk, k), _behind(pv, v), attn_mask=mask))
    return x, finish_block(block, prefix, F.scaled_dot_product_attention(pq, pk, pv, is_causal=True))


def _keys_values(block: ResidualAttentionBlock, x: Tensor) -> tuple[Tensor, Tensor]:
    attn, width = block.attn, x.shape[-1]
    projected = F.linear(block.ln_1(x), attn.in_proj_weight[width:], attn.in_proj_bias[width:])
    k, v = projected.unflatten(-1, (2, attn.num_heads, -1)).permute(2, 0, 3, 1, 4)
    return k, v


def _last_block(
    block: ResidualAttentionBlock, x: Tensor, place: Tensor | int, mask: Tensor | None, prefix: Tensor | None = None
) -> Tensor:
    """A block at one token of each row alone [B, W].

    Args:
        block: the tower's last.
        x: [B, L, W].
        place: of the token in each row [B], or in all rows.
        mask: what the token sees of the prefix and of its row [B, 1, 1, P + L]; None: all.
        prefix: shared by all rows [1, P, W].
    """
    attn, width = block.attn, x.shape[-1]
    k, v = _keys_values(block, x)
    if prefix is not None:
        pk, pv = _keys_values(block, prefix)
        k, v = _behind(pk, k), _behind(pv, v)
    token = x[:, place] if isinstance(place, int) else x[torch.arange(len(x), device=x.device), place]
    q = F.linear(block.ln_1(token), attn.in_proj_weight[:width], attn.in_proj_bias[:width])
    q = q.unflatten(-1, (attn.num_heads, 1, -1))
    return finish(block, token, F.scaled_dot_product_attention(q, k, v, attn_mask=mask).flatten(1))


_BLOCKS = {_causal_block: True, _prefixed_block: True, _open_block: None}
"""Which blocks are compiled, and whether for sizes that change from batch to batch (None: only once they do)."""


def compile_blocks(tower: nn.Module, backend: str = "inductor") -> None:
    """Let ``torch.compile`` make `causal_features`, `prefixed_features` and `class_features` of this tower faster.

    One block is compiled, for all blocks and all numbers and lengths of texts, so that no length waits for a compiler.
    The last one, which is another, is not.
    """
    tower.compiled = {
        block: torch.compile(block, backend=backend, dynamic=dynamic) for block, dynamic in _BLOCKS.items()
    }


def compile_towers(clip: CustomTextCLIP, trims: bool) -> None:
    """Let ``torch.compile`` make both towers faster: by blocks where the functions of this module run them.

    Args:
        clip: the model.
        trims: whether `causal_features` and `prefixed_features` run its text tower.
    """
    for tower, by_blocks in ((clip.visual, is_plain_vit(clip.visual)), (clip.text, trims)):
        if by_blocks:
            compile_blocks(tower)
        else:
            tower.compile()


def _runner(tower: nn.Module) -> Callable[..., Any]:
    """Calls a block; where the tower is set to checkpoint and gradients are wanted, its activations are not kept."""
    compiled: dict[Callable[..., Any], Callable[..., Any]] = getattr(tower, "compiled", {})
    if not (getattr(tower.transformer, "grad_checkpointing", False) and torch.is_grad_enabled()):
        return lambda function, *arguments: compiled.get(function, function)(*arguments)
    return lambda function, *arguments: checkpoint(compiled.get(function, function), *arguments, use_reentrant=False)


def causal_features(tower: TextTransformer, ids: Tensor, positions: Tensor | None = None) -> Tensor:
    """Projected, not yet normalised features [B, D] of a causal tower, cut at the longest EOT.

    Args:
        tower: an open_clip ``TextTransformer`` for which `is_causal` holds.
        ids: token ids [B, L], one EOT per row; best on the CPU: then the host never waits for the tower's device.
        positions: position table [>= L, W] to use instead of the tower's own.
    """
    table = tower.positional_embedding if positions is None else positions
    end = eot_positions(ids)
    ids = ids[:, : int(end.max()) + 1].to(table.device, non_blocking=True)
    end = end.to(table.device, non_blocking=True)
    x = tower.token_embedding(ids) + table[: ids.shape[1]]
    run = _runner(tower)
    *blocks, last = tower.transformer.resblocks
    for block in blocks:
        x = run(_causal_block, block, x)
    seen = torch.arange(ids.shape[1], device=ids.device)[None] <= end[:, None]
    pooled = run(_last_block, last, x, end, seen[:, None, None])
    return _project(tower, tower.ln_final(pooled))


def prefixed_features(
    tower: TextTransformer,
    ids: Tensor,
    n_pre: Tensor,
    positions: Tensor | None = None,
) -> Tensor:
    """Features [B, D] of ``[SOT, PAD * n_pre, text, EOT]`` without running the pads B times.

    Equal to `causal_features` on the padded ids: in a causal tower the states of SOT and of the
    pads behind it depend on nothing that follows, so one row serves the whole batch.

    Args:
        tower: a causal ``TextTransformer``.
        ids: ``[SOT, text, EOT, pads]`` [B, L], not yet shifted; best on the CPU, as in `causal_features`.
        n_pre: how many pads to put behind SOT [B], where the ids are; ``n_pre + text`` must fit the position table.
        positions: position table to use instead of the tower's own.
    """
    table = tower.positional_embedding if positions is None else positions
    end = eot_positions(ids)
    width = 1 + int(n_pre.max())
    own = ids[:, 1 : int(end.max()) + 1].to(table.device, non_blocking=True)
    end, n_pre = (t.to(table.device, non_blocking=True) for t in (end, n_pre))
    shared = torch.tensor([[SOT] + [PAD] * (width - 1)]).to(table.device, non_blocking=True)
    count, length = own.shape
    steps = torch.arange(length, device=table.device)
    # Rows behind a caption's EOT may point past the table; they are never read, so clamping is safe.
    place = (1 + n_pre[:, None] + steps[None]).clamp(max=len(table) - 1)
    x = tower.token_embedding(own) + table[place]
    prefix = tower.token_embedding(shared) + table[:width]
    sees_prefix = torch.arange(width, device=table.device)[None] <= n_pre[:, None]
    sees_own = steps[None] <= steps[:, None]
    mask = torch.cat([sees_prefix[:, None, :].expand(-1, length, -1), sees_own[None].expand(count, -1, -1)], dim=2)[
        :, None
    ]
    run = _runner(tower)
    *blocks, last = tower.transformer.resblocks
    for block in blocks:
        x, prefix = run(_prefixed_block, block, x, prefix, mask)
    seen = torch.cat([sees_prefix, steps[None] < end[:, None]], dim=1)
    pooled = run(_last_block, last, x, end - 1, seen[:, None, None], prefix)
    return _project(tower, tower.ln_final(pooled))


def bucketed_features(
    tower: TextTransformer,
    ids: Tensor,
    n_pre: Tensor | None = None,
    positions: Tensor | None = None,
    buckets: int = 4,
) -> Tensor:
    """`causal_features` or, with ``n_pre``, `prefixed_features`, in ``buckets`` groups of like length.

    With ``ids`` and ``n_pre`` on the CPU the host never waits for the tower's device.
    """
    order = torch.argsort(eot_positions(ids), stable=True)
    parts = []
    for rows in order.chunk(buckets):
        if n_pre is None:
            parts.append(causal_features(tower, ids[rows], positions))
        else:
            parts.append(prefixed_features(tower, ids[rows], n_pre[rows], positions))
    features = torch.cat(parts)
    return features[torch.argsort(order).to(features.device, non_blocking=True)]


def class_features(visual: VisionTransformer, pixels: Tensor) -> Tensor:
    """Projected, not yet normalised features [B, D] of an open_clip ViT for which `is_plain_vit` holds.

    Args:
        visual: the image tower.
        pixels: [B, 3, height, width] on its device.
    """
    x = visual._embeds(pixels)
    run = _runner(visual)
    *blocks, last = visual.transformer.resblocks
    for block in blocks:
        x = run(_open_block, block, x)
    pooled = visual.ln_post(run(_last_block, last, x, 0, None))
    return pooled if visual.proj is None else pooled @ visual.proj
