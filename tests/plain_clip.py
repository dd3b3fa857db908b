"""CLIP written from its formulas in plain torch, for tests: no module of open_clip or clipbias is used."""

from __future__ import annotations

import math

import torch
from torch import Tensor

State = dict[str, Tensor]


def random_state(
    *, width: int = 128, layers: int = 2, vision: int = 64, patch: int = 8, side: int = 16, dim: int = 32,
    context: int = 77, seed: int = 0, vocabulary: int = 49_408,
) -> State:  # fmt: skip
    """A CLIP in OpenAI's layout with random weights, large enough that every part matters."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int, scale: float = 0.05) -> Tensor:
        return torch.randn(*shape, generator=generator) * scale

    def norm(size: int) -> tuple[Tensor, Tensor]:
        return 1 + draw(size), draw(size)

    state: State = {
        "visual.class_embedding": draw(vision, scale=0.5),
        "visual.conv1.weight": draw(vision, 3, patch, patch),
        "visual.positional_embedding": draw((side // patch) ** 2 + 1, vision, scale=0.5),
        "visual.proj": draw(vision, dim, scale=0.3),
        "token_embedding.weight": draw(vocabulary, width, scale=0.5),
        "positional_embedding": draw(context, width, scale=0.5),
        "text_projection": draw(width, dim, scale=0.3),
        "logit_scale": torch.tensor(4.6),
    }
    for name, size in (("visual.ln_pre", vision), ("visual.ln_post", vision), ("ln_final", width)):
        state[f"{name}.weight"], state[f"{name}.bias"] = norm(size)
    for prefix, size in (("visual.transformer", vision), ("transformer", width)):
        for i in range(layers):
            block = f"{prefix}.resblocks.{i}"
            for ln in ("ln_1", "ln_2"):
                state[f"{block}.{ln}.weight"], state[f"{block}.{ln}.bias"] = norm(size)
            for name, shape in (
                ("attn.in_proj_", (3 * size, size)),
                ("attn.out_proj.", (size, size)),
                ("mlp.c_fc.", (4 * size, size)),
                ("mlp.c_proj.", (size, 4 * size)),
            ):
                state[f"{block}.{name}weight"] = draw(*shape, scale=shape[1] ** -0.5)
                state[f"{block}.{name}bias"] = draw(shape[0])
    return state


def _norm(x: Tensor, state: State, name: str) -> Tensor:
    mean = x.mean(-1, keepdim=True)
    variance = ((x - mean) ** 2).mean(-1, keepdim=True)
    return (x - mean) / (variance + 1e-5).sqrt() * state[f"{name}.weight"] + state[f"{name}.bias"]


def attention_weights(x: Tensor, state: State, block: str, heads: int, causal: bool) -> tuple[Tensor, Tensor]:
    """Softmax weights [H, L, L] and values [H, L, W/H] of one block for x [L, W]."""
    y = _norm(x, state, f"{block}.ln_1")
    q, k, v = (y @ state[f"{block}.attn.in_proj_weight"].T + state[f"{block}.attn.in_proj_bias"]).chunk(3, dim=-1)
    q, k, v = (t.reshape(len(x), heads, -1).transpose(0, 1) for t in (q, k, v))
    scores = q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])
    if causal:
        scores = scores.masked_fill(torch.ones_like(scores[0], dtype=torch.bool).triu(1), -torch.inf)
    return scores.softmax(-1), v


def _blocks(x: Tensor, state: State, prefix: str, causal: bool) -> Tensor:
    heads = x.shape[-1] // 64
    count = len({key.split(".")[prefix.count(".") + 2] for key in state if key.startswith(f"{prefix}.resblocks.")})
    for i in range(count):
        block = f"{prefix}.resblocks.{i}"
        weights, v = attention_weights(x, state, block, heads, causal)
        mixed = (weights @ v).transpose(0, 1).reshape(len(x), -1)
        x = x + mixed @ state[f"{block}.attn.out_proj.weight"].T + state[f"{block}.attn.out_proj.bias"]
        hidden = (
            _norm(x, state, f"{block}.ln_2") @ state[f"{block}.mlp.c_fc.weight"].T + state[f"{block}.mlp.c_fc.bias"]
        )
        hidden = hidden * torch.sigmoid(1.702 * hidden)  # QuickGELU
        x = x + hidden @ state[f"{block}.mlp.c_proj.weight"].T + state[f"{block}.mlp.c_proj.bias"]
    return x


def _unit(x: Tensor) -> Tensor:
    return x / x.norm()


def text_feature(
    state: State, ids: list[int], positions: Tensor | None = None, projection: Tensor | None = None
) -> Tensor:
    """The normalised feature [D] of token ids that end at the first EOT or go on behind it."""
    table = state["positional_embedding"] if positions is None else positions
    x = state["token_embedding.weight"][torch.tensor(ids)] + table[: len(ids)]
    x = _norm(_blocks(x, state, "transformer", causal=True), state, "ln_final")
    return _unit(x[ids.index(49_407)] @ (state["text_projection"] if projection is None else projection))


def image_feature(state: State, pixels: Tensor) -> Tensor:
    """The normalised feature [D] of pixels [3, H, W]."""
    kernel = state["visual.conv1.weight"]
    size = kernel.shape[-1]
    patches = pixels.unfold(1, size, size).unfold(2, size, size)  # [3, h, w, size, size]
    patches = patches.permute(1, 2, 0, 3, 4).reshape(-1, 3 * size * size) @ kernel.reshape(len(kernel), -1).T
    x = torch.cat([state["visual.class_embedding"][None], patches]) + state["visual.positional_embedding"]
    x = _blocks(_norm(x, state, "visual.ln_pre"), state, "visual.transformer", causal=False)
    return _unit(_norm(x[0], state, "visual.ln_post") @ state["visual.proj"])
