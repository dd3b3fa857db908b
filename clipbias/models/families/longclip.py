"""Long-CLIP: OpenAI's names with two position tables; rows below 20 from the base, the others from ``_res``."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from clipbias.models.layouts import State, join_positions, openai_to_custom

SQUARE = False


def recognise(state: Mapping[str, Tensor]) -> str | None:
    """Long-CLIP's files have a top-level ``positional_embedding_res``."""
    return "it has a top-level positional_embedding_res" if "positional_embedding_res" in state else None


def read(state: Mapping[str, Tensor]) -> tuple[State, dict[str, str]]:
    """Both tables are joined into the one that Long-CLIP's forward pass sums up to."""
    joined = dict(state)
    joined["positional_embedding"] = join_positions(
        joined["positional_embedding"], joined.pop("positional_embedding_res")
    )
    return openai_to_custom(joined), {}
