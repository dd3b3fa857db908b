"""Several processes that train together under ``torchrun``: their shares, and what they have to know of each other."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from clipbias.errors import UserError
from clipbias.finetune.recipe import Recipe


def distributed() -> bool:
    """Whether several processes train together."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def share_of_batch(recipe: Recipe) -> tuple[int, slice]:
    """This process' number, and its share of a batch.

    Raises:
        UserError: the shares would not be equal.
    """
    if not distributed():
        return 0, slice(None)
    rank, size = dist.get_rank(), dist.get_world_size()
    if recipe.batch_size % size:
        raise UserError(f"batch_size {recipe.batch_size} cannot be shared equally by {size} processes")
    each = recipe.batch_size // size
    return rank, slice(rank * each, (rank + 1) * each)


def at_any(mine: bool) -> bool:
    """Whether it is so at any process; all stop after the same step."""
    if not distributed():
        return mine
    flag = torch.tensor(int(mine))  # on the CPU: the processes talk, no device is waited for
    dist.all_reduce(flag, dist.ReduceOp.MAX)
    return bool(flag)


def gathered(features: Tensor) -> Tensor:
    """The features of all processes [world * B, D], with gradients; in one process, as they are.

    Every process computes the same loss of all of them; the backward pass adds up the processes' equal gradients, and
    `DistributedDataParallel`'s mean over processes then leaves that of one process with the whole batch.
    """
    return _Gather.apply(features) if distributed() else features


class _Gather(torch.autograd.Function):
    """Forward: every process' rows, in the processes' order. Backward: the sum of all processes' gradients of mine."""

    @staticmethod
    def forward(ctx: Any, mine: Tensor) -> Tensor:
        ctx.rows = len(mine)
        # One tensor for all processes' rows: gathering into a list would need a second copy to join them.
        together = mine.new_empty((len(mine) * dist.get_world_size(), *mine.shape[1:]))
        # PyTorch renames this call; the older name warns where the new one is known.
        gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
        gather(together, mine.contiguous())
        return together

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        total = grad.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        start = dist.get_rank() * ctx.rows
        return total[start : start + ctx.rows]
