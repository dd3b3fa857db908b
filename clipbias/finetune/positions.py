"""Long-CLIP's knowledge-preserving stretch of the position table (paper section 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor


def stretch_positions(old: Tensor, keep: int = 20, factor: int = 4) -> Tensor:
    """Stretch a position table, keeping its first rows: ``[N, W] -> [factor*N - (factor-1)*keep, W]``.

    For ``i`` in ``0..N-keep-2`` and ``j`` in ``0..factor-1``::

        new[keep + factor*i + j] = ((factor-j) * old[keep+i] + j * old[keep+i+1]) / factor

    and the last ``factor`` rows extrapolate: ``old[N-1] + j * (old[N-1] - old[N-2]) / factor``.
    With N = 77, keep = 20, factor = 4 this is Long-CLIP's 248-row table.

    Raises:
        ValueError: fewer than two rows are left to stretch.
    """
    rows = len(old)
    if not 0 <= keep <= rows - 2:
        raise ValueError(f"cannot keep {keep} of {rows} positions: at least two must be left to stretch")
    tail = old[keep:]
    steps = torch.cat([tail[1:] - tail[:-1], tail[-1:] - tail[-2:-1]])
    j = torch.arange(factor, dtype=old.dtype, device=old.device).view(1, factor, 1)
    stretched = tail[:, None] + j * steps[:, None] / factor
    return torch.cat([old[:keep], stretched.flatten(0, 1)])
