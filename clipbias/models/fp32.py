"""fp32 that is fp32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def full_fp32() -> Iterator[None]:
    """A block in which fp32 is fp32: no TF32 in matrix products or convolutions, whatever is set outside.

    cuDNN's convolutions, the patch embedding among them, use TF32 unless they are told not to.
    """
    matmul = torch.backends.cuda.matmul
    before, matmul.allow_tf32 = matmul.allow_tf32, False
    try:
        with torch.backends.cudnn.flags(
            enabled=torch.backends.cudnn.enabled, benchmark=torch.backends.cudnn.benchmark, allow_tf32=False
        ):
            yield
    finally:
        matmul.allow_tf32 = before
