"""Checkpoint layouts: OpenAI's and Long-CLIP's against open_clip's custom-text names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from clipbias.errors import UserError
from clipbias.models.build import VOCABULARY, ClipShape

if TYPE_CHECKING:
    from open_clip.model import CustomTextCLIP

State = dict[str, Tensor]
TOKENS, TOKEN_ROWS = "token_embedding.weight", "token_embedding.rows"
_TEXT_PARTS = ("transformer.", "token_embedding.", "positional_embedding", "ln_final.", "text_projection")
SCALARS = ("input_resolution", "context_length", "vocab_size")
"""What OpenAI's archives hold beside weights. OpenAI's loader, and open_clip's of such files, leave them out and build
QuickGELU: a file with them says so."""


def openai_to_custom(state: Mapping[str, Tensor]) -> State:
    """OpenAI's names (``transformer.*``, ``visual.*``) to open_clip's (``text.transformer.*``, ``visual.*``).

    A compact token table (``token_embedding.rows`` names the rows that are stored) is filled up with zeros.
    """
    out: State = {}
    for key, value in state.items():
        if key not in (*SCALARS, TOKEN_ROWS):
            out[f"text.{key}" if key.startswith(_TEXT_PARTS) else key] = value
    if TOKEN_ROWS in state:
        rows, stored = state[TOKEN_ROWS], state[TOKENS]
        if rows.ndim != 1 or len(rows) != len(stored) or not bool(((rows >= 0) & (rows < VOCABULARY)).all()):
            raise UserError(f"{TOKEN_ROWS} does not fit {TOKENS}: {tuple(rows.shape)} rows for {tuple(stored.shape)}")
        full = stored.new_zeros(VOCABULARY, stored.shape[1])
        full[rows] = stored
        out[f"text.{TOKENS}"] = full
    return out


def custom_to_openai(state: Mapping[str, Tensor]) -> State:
    """The reverse of `openai_to_custom`, with a full token table."""
    return {key.removeprefix("text."): value for key, value in state.items()}


def openai_scalars(shape: ClipShape) -> State:
    """The `SCALARS` of a model with QuickGELU."""
    values = (shape.image_size, shape.context_length, VOCABULARY)
    return {name: torch.tensor(value) for name, value in zip(SCALARS, values, strict=True)}


def to_longclip_layout(module: CustomTextCLIP, positions: Tensor, positions_res: Tensor) -> State:
    """A state dict that Long-CLIP's own loader takes: OpenAI's names and the two position tables."""
    state = custom_to_openai(module.state_dict())
    return state | {"positional_embedding": positions, "positional_embedding_res": positions_res}


def compact_tokens(state: Mapping[str, Tensor]) -> State:
    """An OpenAI-layout state with only the non-zero token rows stored, and which they are."""
    rows = state[TOKENS].abs().sum(dim=1).nonzero().flatten()
    return {**state, TOKENS: state[TOKENS][rows], TOKEN_ROWS: rows}


def shape_of(state: Mapping[str, Tensor]) -> ClipShape:
    """The sizes of a state in open_clip's custom-text names.

    Raises:
        UserError: a tensor that decides a size is missing or has the wrong rank.
    """
    try:
        patches = state["visual.conv1.weight"]
        grid = round((state["visual.positional_embedding"].shape[0] - 1) ** 0.5)
        return ClipShape(
            embed_dim=state["text.text_projection"].shape[1],
            image_size=grid * patches.shape[-1],
            patch_size=patches.shape[-1],
            vision_width=patches.shape[0],
            vision_layers=_layers(state, "visual.transformer.resblocks."),
            text_width=state["text.ln_final.weight"].shape[0],
            text_layers=_layers(state, "text.transformer.resblocks."),
            context_length=state["text.positional_embedding"].shape[0],
        )
    except (KeyError, IndexError) as error:
        raise UserError(f"not a ViT CLIP checkpoint: {error} is missing or has the wrong shape") from error


def _layers(state: Mapping[str, Tensor], prefix: str) -> int:
    return len({key[len(prefix) :].split(".")[0] for key in state if key.startswith(prefix)})


def join_positions(base: Tensor, res: Tensor, keep: int = 20) -> Tensor:
    """The table in use: ``base`` for positions below ``keep``, ``res`` from there on."""
    return torch.cat([base[:keep], res[keep:]])
