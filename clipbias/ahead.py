"""Making things ahead of their reader."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
MOST = 16
"""Threads at most, where their number is not asked for."""


def cores() -> int:
    """The cores that this process may use, at most `MOST`; under ``torchrun`` a machine's processes share them."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MOST, max(1, allowed // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))


def prefetched(make: Callable[[int], T], count: int, ahead: int, workers: int | None = None) -> Generator[T]:
    """``make(0)``, ``make(1)``, ... in order, made by threads up to ``ahead`` of where the reader is.

    Args:
        make: called from threads; decoding and resizing images release Python's lock.
        count: how many.
        ahead: how many may wait; they are what is held in memory.
        workers: threads; default `cores`.
    """
    with ThreadPoolExecutor(workers or cores()) as pool:
        waiting: deque[Future[T]] = deque()
        try:
            for index in range(count):
                waiting.append(pool.submit(make, index))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
