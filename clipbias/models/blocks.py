"""The blocks of open_clip's towers in pieces: what stands before the attention, the attention, and what follows.

Shapes: B captions or images, L tokens, T tokens of a whole batch, W width, H heads.
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
    from open_clip.transformer import ResidualAttentionBlock

_QUICK = 1.702
Attend = Callable[[Tensor, int], Tensor]
"""Attention's result [T, W] of queries, keys and values side by side [T, 3W] and the number of heads."""


def enter(block: ResidualAttentionBlock, x: Tensor) -> Tensor:
    """A block's queries, keys and values side by side [..., 3W] of ``x`` [..., W]."""
    return F.linear(block.ln_1(x), block.attn.in_proj_weight, block.attn.in_proj_bias)


def qkv(block: ResidualAttentionBlock, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values [B, H, L, W/H] of one residual block for ``x`` [B, L, W]."""
    q, k, v = enter(block, x).unflatten(-1, (3, block.attn.num_heads, -1)).permute(2, 0, 3, 1, 4)
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


def through(tower: nn.Module, blocks: Sequence[nn.Module], x: Tensor, attend: Attend) -> Tensor:
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


def by_heads(x: Tensor, count: int, heads: int) -> Tensor:
    """[count * L, W] -> [count, H, L, W / H]."""
    return x.unflatten(0, (count, -1)).unflatten(-1, (heads, -1)).transpose(1, 2)


def flat(x: Tensor) -> Tensor:
    """[B, H, L, W / H] -> [B * L, W]."""
    return x.transpose(1, 2).flatten(2).flatten(0, 1)


def attention(part: Tensor, count: int, heads: int, causal: bool) -> Tensor:
    """Attention's result [count * L, W] of queries, keys and values side by side [count * L, 3W]."""
    q, k, v = (by_heads(t, count, heads) for t in part.chunk(3, dim=1))
    return flat(F.scaled_dot_product_attention(q, k, v, is_causal=causal))


def last_block(
    block: ResidualAttentionBlock, x: Tensor, places: Tensor, attend: Callable[[Tensor, Tensor, int], Tensor]
) -> Tensor:
    """A tower's last block at the pooled tokens alone [B, W]; ``places`` [B] in ``x`` [T, W]."""
    attn, width, pooled = block.attn, x.shape[1], x[places]
    queries = F.linear(block.ln_1(pooled), attn.in_proj_weight[:width], attn.in_proj_bias[:width])
    others = F.linear(block.ln_1(x), attn.in_proj_weight[width:], attn.in_proj_bias[width:])
    return finish(block, pooled, attend(queries, others, attn.num_heads))
