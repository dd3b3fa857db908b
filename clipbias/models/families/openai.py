"""OpenAI CLIP: top-level names, 77 positions."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from clipbias.models.layouts import State, openai_to_custom

SQUARE = False


def recognise(state: Mapping[str, Tensor]) -> str | None:
    """OpenAI's files have ``visual.conv1.weight`` and a top-level ``positional_embedding``."""
    if "visual.conv1.weight" in state and "positional_embedding" in state:
        return "it has visual.conv1.weight and one top-level positional_embedding"
    return None


def read(state: Mapping[str, Tensor]) -> tuple[State, dict[str, str]]:
    """As the file has it."""
    return openai_to_custom(state), {}
