"""fp32 that is fp32."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

_PLACES = {"cuda": ("matmul",), "cudnn": ("conv", "rnn"), "mkldnn": ("matmul", "conv", "rnn")}


@contextmanager
def full_fp32() -> Iterator[None]:
    """A block in which fp32 is fp32: no TF32 or bf16 in matrix products or convolutions, whatever is set outside.

    cuDNN's convolutions, the patch embedding among them, use TF32 unless they are told not to.

    PyTorch has two ways to set it, and reading by the older what was set by the newer raises. Inside both say the same,
    so that the block can read either; afterwards each is as it was, mixed or not.
    """
    operations = _operations()
    precisions = [operation.fp32_precision for operation in operations]
    _set(operations, ["ieee"] * len(operations))
    older = torch.get_float32_matmul_precision(), _cudnn_tf32()
    try:
        _set_both("highest", False, operations, ["ieee"] * len(operations))
        yield
    finally:
        _set_both(*older, operations, precisions)


def _operations() -> list[Any]:
    """What has an ``fp32_precision`` of its own; nothing before PyTorch 2.9."""
    found = [getattr(getattr(torch.backends, place), name, None) for place, names in _PLACES.items() for name in names]
    return [operation for operation in found if hasattr(operation, "fp32_precision")]


def _cudnn_tf32() -> bool:
    """The older setting of cuDNN, where the newer forbids TF32."""
    try:
        return bool(torch.backends.cudnn.allow_tf32)
    except RuntimeError:
        return True  # it is not what the newer says


def _set(operations: Sequence[Any], precisions: Sequence[str]) -> None:
    """Set each operation's precision, by itself only where it does not follow what is set for all."""
    for operation, precision in zip(operations, precisions, strict=True):
        operation.fp32_precision = "none"
        if operation.fp32_precision != precision:
            operation.fp32_precision = precision


def _set_both(matmul: str, cudnn: bool, operations: Sequence[Any], precisions: Sequence[str]) -> None:
    """Set the older way first: it changes what the newer shows."""
    torch.set_float32_matmul_precision(matmul)
    torch.backends.cudnn.allow_tf32 = cudnn
    _set(operations, precisions)
