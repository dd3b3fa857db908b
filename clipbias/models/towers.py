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

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipbias.models.blocks import attention, by_heads, compile_blocks, flat, last_block, through
from clipbias.models.rows import Row

if TYPE_CHECKING:
    from open_clip.model import CustomTextCLIP
    from open_clip.transformer import TextTransformer, VisionTransformer


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


def is_plain_vit(visual: nn.Module) -> bool:
    """Whether `class_features` computes the same as this image tower: a ViT read at its class token."""
    return (
        type(visual).__name__ == "VisionTransformer"
        and getattr(visual, "pool_type", "") == "tok"
        and getattr(visual, "attn_pool", None) is None
        and not getattr(visual, "output_tokens", True)
        and has_plain_blocks(visual)
    )


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
    row = Row(ids, n_pre, groups).to(table.device)
    # Positions behind a caption's EOT may point past the table; they are never read, so clamping is safe.
    x = tower.token_embedding(row.ids) + F.embedding(row.places.clamp(max=len(table) - 1), table)
    *blocks, last = tower.transformer.resblocks
    x = through(tower, blocks, x, row.attend)
    pooled = last_block(last, x, row.last, row.attend_last)
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
    x = through(visual, blocks, x.flatten(0, 1), lambda part, heads: attention(part, count, heads, False))
    places = torch.arange(0, count * length, length, device=x.device)

    def attend(queries: Tensor, others: Tensor, heads: int) -> Tensor:
        k, v = (by_heads(t, count, heads) for t in others.chunk(2, dim=1))
        return flat(F.scaled_dot_product_attention(by_heads(queries, count, heads), k, v))

    pooled = last_block(last, x, places, attend)
    with _precise(x.device):
        pooled = visual.ln_post(pooled.float())
        return pooled if visual.proj is None else pooled @ visual.proj


def _precise(device: torch.device) -> torch.autocast:
    """A block in fp32: the projection of the one pooled token costs nothing, and bf16 would round each number of the
    feature to eight bits."""
    return torch.autocast(device.type, enabled=False)
