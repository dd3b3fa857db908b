"""CLIP's special ids, and rows of ids."""

from __future__ import annotations

import torch
from torch import Tensor

SOT, EOT, PAD = 49406, 49407, 0


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
