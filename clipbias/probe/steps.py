"""What several processes do at the same time: in steps, of which all know when one fails.

A process that fails inside a step says so before the next exchange, and none waits for what does not come. One that
leaves in any other way closes its connections, which the others notice wherever they wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from clipbias.errors import UserError


class Elsewhere(UserError):
    """A step failed at another process."""


def share(count: int, rank: int) -> slice:
    """The ``rank``-th process' contiguous share of ``count`` items."""
    size = dist.get_world_size()
    return slice(count * rank // size, count * (rank + 1) // size)


def split(items: Any) -> list[Any]:
    """The items' shares."""
    return [items[share(len(items), rank)] for rank in range(dist.get_world_size())]


def hand_out(parts: list[Any] | None) -> Any:
    """This process' part of what process 0 has; small things, as they are pickled."""
    out: list[Any] = [None]
    dist.scatter_object_list(out, parts, src=0)
    return out[0]


def agree(problem: Exception | None = None) -> None:
    """All processes go on, or none does; each calls it at the same points of a `step`. One alone just goes on.

    Args:
        problem: why this one cannot.

    Raises:
        Exception: the ``problem``.
        Elsewhere: another process has one.
    """
    if not (dist.is_available() and dist.is_initialized()):
        if problem is not None:
            raise problem
        return
    failed = torch.tensor(int(problem is not None))
    dist.all_reduce(failed, dist.ReduceOp.MAX)
    if not failed:
        return
    reports: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(reports, None if problem is None else f"process {dist.get_rank()}: {_told(problem)}")
    raise problem or Elsewhere("; ".join(filter(None, reports)))


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"


@contextmanager
def step() -> Iterator[None]:
    """A block that all processes run at the same time; it fails at all where it fails at one.

    Before each exchange the block calls `agree`; between the two nothing is done that can fail.
    """
    problem = None
    try:
        yield
    except Elsewhere:
        raise  # all know
    except Exception as error:
        problem = error
    agree(problem)


def gathered(encode: Callable[[], Tensor], count: int) -> Tensor:
    """At process 0: the features [count, D] of all processes, each of which encodes its `share`.

    Raises:
        UserError: another process failed.
    """
    with step():
        mine = encode()
        whole = mine.new_empty(count, mine.shape[1])
        agree()
        whole[share(count, 0)] = mine
        for rank in range(1, dist.get_world_size()):
            dist.recv(whole[share(count, rank)], src=rank)
    return whole


def sent(encode: Callable[[], Tensor]) -> None:
    """At another process: its part of `gathered`."""
    with step():
        features = encode().contiguous()
        agree()
        dist.send(features, dst=0)
