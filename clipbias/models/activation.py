"""The activation of checkpoints in OpenAI's layout, of which bare files say nothing."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from clipbias.errors import UserError
from clipbias.models.layouts import SCALARS

if TYPE_CHECKING:
    from torch import Tensor

_WIDTHS = (768, 1024)  # of OpenAI's vision towers with heads of 64; OpenCLIP's wider ones have other heads
log = logging.getLogger(__name__)


def openai_activation(state: Mapping[str, Tensor], activation: str = "auto") -> str:
    """The activation to build, with a word on what is known of it.

    OpenCLIP's own checkpoints have OpenAI's names and mostly another activation. "auto": QuickGELU where the file holds
    the scalars of OpenAI's archives (`SCALARS`), as those do that clipbias writes; else QuickGELU too, and the result
    says that it is assumed.

    Raises:
        UserError: another activation, or a tower that OpenAI never published.
    """
    if activation not in ("auto", "quickgelu", "gelu"):
        raise UserError(f"openai option activation={activation!r}: choose auto, quickgelu or gelu")
    width = len(state["visual.conv1.weight"])
    if width > max(_WIDTHS):
        raise UserError(
            f"a vision tower of width {width}, which OpenAI never published; is it OpenCLIP's? "
            "Then load it as openclip:NAME --weights FILE, such as openclip:ViT-H-14"
        )
    if activation != "auto":
        return activation
    if set(state) >= set(SCALARS):
        return "quickgelu"
    log.warning(
        "this file does not state its activation; QuickGELU (OpenAI's) is assumed. For OpenCLIP's checkpoints "
        "use openclip:NAME --weights FILE, or the option activation=gelu"
    )
    return "quickgelu, assumed"
