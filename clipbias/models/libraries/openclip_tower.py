"""The text tower of open_clip's modules: attention rows and gradients, computed from its blocks.

Only the pooled query's row of each attention matrix is made: memory is O(layers x heads x length) a text. The rollout
holds one layer's matrices at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipbias.errors import NotApplicable
from clipbias.models.blocks import finish_block, qkv
from clipbias.models.fp32 import full_fp32
from clipbias.models.tokenizer import Tokens
from clipbias.models.tower import Attention, TextTower
from clipbias.models.towers import has_plain_blocks

if TYPE_CHECKING:
    from open_clip.transformer import TextTransformer


class OpenClipTower(TextTower):
    """See `TextTower`; around open_clip's ``TextTransformer``."""

    def __init__(
        self,
        name: str,
        tower: TextTransformer,
        tokens: Tokens,
        encode: Callable[[Tensor], Tensor],
        device: torch.device,
    ) -> None:
        """``encode``: ids [N, L] to features [N, D], as the encoder does it."""
        self.name, self.tokens = name, tokens
        self._tower, self._encode, self._device = tower, encode, device

    def features(self, ids: Tensor) -> Tensor:
        """See `TextTower.features`."""
        return self._encode(ids)

    def attention(self, ids: Tensor) -> Attention:
        """See `TextTower.attention`."""
        if getattr(self._tower, "cls_emb", None) is not None:
            raise NotApplicable(
                f"{self.name}: its class token stands behind the text, without an id; no attention is given"
            )
        if not has_plain_blocks(self._tower):
            raise NotApplicable(f"{self.name}: its blocks are not CLIP's, and do not show their attention")
        ids = ids.to(self._device)
        query = pooled_positions(self._tower, ids)
        if _causal(self._tower):
            ids = ids[:, : int(query.max()) + 1]
        return Attention(pooled_attention(self._tower, ids), rollout(self._tower, ids), query)

    def gradients(self, ids: Tensor, images: Tensor) -> Tensor:
        """See `TextTower.gradients`."""
        return gradient_times_input(self._tower, ids.to(self._device), images.to(self._device).float())


def _causal(tower: TextTransformer) -> bool:
    return getattr(tower, "attn_mask", None) is not None


def pooled_positions(tower: TextTransformer, ids: Tensor) -> Tensor:
    """The position [B] that the tower pools, as open_clip's ``text_global_pool`` finds it.

    Raises:
        NotApplicable: it pools none.
    """
    pool = getattr(tower, "pool_type", "")
    if pool == "argmax":
        # The first of the highest ids; argmax alone does not say which of equals it takes.
        return (ids == ids.max(dim=1, keepdim=True).values).int().argmax(dim=1)
    if pool == "eos":
        return (ids == tower.eos_id).int().argmax(dim=1)
    if pool in ("first", "last"):
        return torch.full((len(ids),), 0 if pool == "first" else ids.shape[1] - 1, device=ids.device)
    raise NotApplicable(
        f"attention by position needs one pooled position, and this tower has none ({pool or 'no pool'})"
    )


def _layers(tower: TextTransformer, ids: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Each layer's queries and keys [B, H, L, D], in the order of the forward pass."""
    x = tower.token_embedding(ids) + tower.positional_embedding[: ids.shape[1]]
    for block in tower.transformer.resblocks:
        q, k, v = qkv(block, x)
        yield q, k
        x = finish_block(block, x, F.scaled_dot_product_attention(q, k, v, is_causal=_causal(tower)))


@torch.inference_mode()
@full_fp32()
def pooled_attention(tower: TextTransformer, ids: Tensor) -> Tensor:
    """Weights [B, layers, H, L] of the pooled query on every position; each row sums to one.

    Args:
        tower: open_clip's ``TextTransformer`` of plain blocks that pools one position.
        ids: token ids [B, L].
    """
    query = pooled_positions(tower, ids)
    every = torch.arange(len(ids), device=ids.device)
    out = []
    for q, k in _layers(tower, ids):
        scores = torch.einsum("bhd,bhld->bhl", q[every, :, query], k) / q.shape[-1] ** 0.5
        if _causal(tower):
            hidden = torch.arange(ids.shape[1], device=ids.device) > query[:, None]
            scores = scores.masked_fill(hidden[:, None], float("-inf"))
        out.append(scores.softmax(-1))
    return torch.stack(out, dim=1)


@torch.inference_mode()
@full_fp32()
def rollout(tower: TextTransformer, ids: Tensor) -> Tensor:
    """Attention rollout [B, L] from the pooled position, from the last layer down; each row sums to one.

    Arguments as `pooled_attention`.
    """
    row = F.one_hot(pooled_positions(tower, ids), ids.shape[1]).float()
    hidden = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool, device=ids.device).triu(1)
    for q, k in reversed(list(_layers(tower, ids))):
        scores = torch.einsum("bhqd,bhkd->bhqk", q, k) / q.shape[-1] ** 0.5
        if _causal(tower):
            scores = scores.masked_fill(hidden, float("-inf"))
        row = (torch.einsum("bq,bqk->bk", row, scores.softmax(-1).mean(1).float()) + row) / 2
    return row


def gradient_times_input(tower: TextTransformer, ids: Tensor, image: Tensor) -> Tensor:
    """Gradient of the cosine at each token's embedding, times the embedding, summed over it: [B, L].

    Args:
        tower: a text tower with a ``token_embedding``.
        ids: token ids [B, L].
        image: L2-normalised image features [B, D].
    """
    return gradients_at(tower.token_embedding, lambda: _features(tower, ids), image)


def _features(tower: TextTransformer, ids: Tensor) -> Tensor:
    found = tower(ids)
    return found[0] if isinstance(found, tuple) else found


@full_fp32()
def gradients_at(embedding: nn.Module, features: Callable[[], Tensor], image: Tensor) -> Tensor:
    """Gradient of the cosine of ``features()`` [B, D] and ``image`` at what ``embedding`` gives, times that: [B, L]."""
    kept: list[Tensor] = []

    def catch(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        kept.append(output.detach().requires_grad_())
        return kept[0]

    handle = embedding.register_forward_hook(catch)
    try:
        with torch.enable_grad():
            cosines = (F.normalize(features().float(), dim=-1) * image).sum(-1)
            (gradient,) = torch.autograd.grad(cosines.sum(), kept[0])
    finally:
        handle.remove()
    return (gradient * kept[0]).sum(-1).detach()
