"""Evaluation on several GPUs or machines under ``torchrun``: each process encodes a share of the texts and images, and
ranks against a share of the images.

Process 0 runs the probes as if it were alone; its encoder hands out the work. The others serve it until it is done.
Features come back in input order; for ranks, each process holds its share of the images, and captions come block by
block. Counts are added up, so ranks are those of one process to the bit.

    torchrun --nproc-per-node 4 -m clipbias probe all --model longclip-b16
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from clipbias.data.dataset import RetrievalDataset
from clipbias.data.image_loaders import LazyImages
from clipbias.errors import UserError
from clipbias.models.encoder import Encoder
from clipbias.probe.blocks import Layout, share_of_rows
from clipbias.probe.counting import Counts, Share, Work, count
from clipbias.probe.ranking import Count, count_alone
from clipbias.probe.steps import agree, gathered, hand_out, sent, split, step

if TYPE_CHECKING:
    from PIL import Image

_STOP = "stop"
PATIENCE = timedelta(days=30)
"""How long a process waits for another; PyTorch's half an hour is less than process 0 may take over what it does alone.

Nobody is left to wait for ever: where a process ends its connections close, and ``torchrun`` ends the others.
"""


def world_size() -> int:
    """How many processes ``torchrun`` started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def local_device(device: str) -> str:
    """The device of this process: under ``torchrun`` a GPU each, where "auto" or "cuda" is asked for."""
    if world_size() > 1 and device in ("auto", "cuda") and torch.cuda.is_available():
        return f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"
    return device


@contextmanager
def process_group(backend: str | None = "gloo") -> Iterator[int]:
    """This process's number; the processes are connected inside the block where there are several.

    Args:
        backend: gloo where all that is sent lies on the CPU; None lets torch choose by device.

    Raises:
        UserError: the connection to another process is lost.
    """
    if world_size() == 1:
        yield 0
        return
    if torch.cuda.is_available():
        # Pinned memory belongs to the current device: all processes would take some of the first GPU for theirs.
        torch.cuda.set_device(local_device("cuda"))
    dist.init_process_group(backend, timeout=PATIENCE)
    try:
        yield dist.get_rank()
        # None leaves while another still talks: one that tears down its connections early can abort the others.
        dist.barrier()
    except RuntimeError as error:
        if "gloo/transport" not in str(error):
            raise
        raise UserError(f"process {dist.get_rank()}: another process has ended; what it printed says why") from error
    finally:
        dist.destroy_process_group()


class SharedEncoder(Encoder):
    """Process 0's encoder: encodes a share of what it is asked for, and has the others encode the rest."""

    _alone: Encoder

    def encode_token_ids(self, ids: Tensor, batch_size: int | None = None) -> Tensor:
        """See `Encoder.encode_token_ids`."""
        if len(ids) < dist.get_world_size():
            return self._alone.encode_token_ids(ids, batch_size)
        # A view would be sent with the whole tensor that it is a part of.
        mine = hand_out([("ids", part.clone(), batch_size) for part in split(ids)])
        return gathered(lambda: self._alone.encode_token_ids(*mine[1:]), len(ids))

    def encode_texts(self, texts: Sequence[str], batch_size: int | None = None) -> Tensor:
        """See `Encoder.encode_texts`."""
        if len(texts) < dist.get_world_size():
            return self._alone.encode_texts(texts, batch_size)
        mine = hand_out([("texts", list(part), batch_size) for part in split(texts)])
        return gathered(lambda: self._alone.encode_texts(*mine[1:]), len(texts))

    def encode_images(self, images: Sequence[Image.Image | str | Path], batch_size: int | None = None) -> Tensor:
        """See `Encoder.encode_images`; the data set's own images are shared, others are encoded here."""
        if not isinstance(images, LazyImages) or len(images) < dist.get_world_size():
            return self._alone.encode_images(images, batch_size)
        _, mine, _ = hand_out([("images", part, batch_size) for part in split(images.indices)])

        def told(done: int) -> None:
            images.told(done * len(images) // len(mine))  # the others are as far as this process

        return gathered(lambda: self._alone.encode_images(LazyImages(images.load, mine, told), batch_size), len(images))


def _sharing(encoder: Encoder) -> Encoder:
    """The encoder with its work shared: of its own class, so that all else that it can do stays."""
    kind = type(f"Sharing{type(encoder).__name__}", (SharedEncoder, type(encoder)), {})
    made: Any = object.__new__(kind)
    made.__dict__.update(encoder.__dict__)
    made._alone = encoder
    return made


def _arrays(work: Work) -> list[np.ndarray]:
    """What of the work is long: a few integers an item."""
    return [part for of in (work.lines, work.columns) for part in (of.items, of.row, of.place)] + [work.own]


_Frame = tuple[list[tuple[int, str]], tuple[int, int, int]]
"""Length and type of each of a work's arrays; its three numbers."""


def _frame(work: Work) -> _Frame:
    return [(len(part), part.dtype.str) for part in _arrays(work)], (work.rows, work.width, work.block)


def _framed(frame: _Frame) -> Work:
    """Work with room for those arrays."""
    shapes, numbers = frame
    made = [np.empty(count, kind) for count, kind in shapes]
    return Work(Layout(*made[:3]), Layout(*made[3:6]), made[6], *numbers)


def _bytes(work: Work) -> list[Tensor]:
    """The arrays' own memory, to be broadcast; pickled, they would be copied several times."""
    return [torch.from_numpy(np.ascontiguousarray(part).view(np.uint8)) for part in _arrays(work)]


def count_together(work: Work, texts: Tensor, images: Tensor, device: torch.device) -> Counts:
    """At process 0: counts of all processes, each with a share of the images (`clipbias.probe.ranking.rank_both`).

    Raises:
        UserError: another process failed.
    """
    size = dist.get_world_size()
    shares = [share_of_rows(len(images), work.block, rank, size) for rank in range(size)]
    hand_out([None, *(("rank", (_frame(work), rows), None) for rows in shares[1:])])
    with step():
        parts = [images[rows.start : rows.stop].contiguous() for rows in shares]  # views, sent from where they lie
        items = _bytes(work)
        agree()
        for part in items:
            dist.broadcast(part, src=0)
        for rank, part in enumerate(parts):
            if rank and len(part):
                dist.send(part, dst=rank)
        return _count_share(
            work, shares[0], parts[0].to(device), lambda first: texts[first : first + work.block].contiguous()
        )


def _count_along(frame: _Frame, rows: range, device: torch.device) -> None:
    """At another process: its part of `count_together`."""
    with step():
        work = _framed(frame)
        images = torch.empty(len(rows), work.width)
        items = _bytes(work)
        agree()
        for part in items:
            dist.broadcast(part, src=0)
        if len(rows):
            dist.recv(images, src=0)
        images = images.to(device)
        _count_share(work, rows, images, lambda first: torch.empty(min(work.block, work.rows - first), work.width))


def _count_share(work: Work, rows: range, images: Tensor, texts: Callable[[int], Tensor]) -> Counts:
    """This process' counting, in a `step`; ``texts`` gives process 0 a block, the others memory for it."""
    device = images.device

    def lines(first: int) -> Tensor:
        part = texts(first)
        agree()
        dist.broadcast(part, src=0)
        return part.to(device)

    def total(part: Tensor, how: str) -> Tensor:
        whole = part.cpu()
        agree()
        dist.all_reduce(whole, dist.ReduceOp.MAX if how == "max" else dist.ReduceOp.SUM)
        return whole.to(device)

    return count(work, Share(rows, images, lines, total))


def counter(encoder: Encoder) -> Count:
    """Who counts ranks of an encoder's features: all processes, where they serve it."""
    return count_together if isinstance(encoder, SharedEncoder) else count_alone


@contextmanager
def shared(encoder: Encoder) -> Iterator[Encoder]:
    """At process 0: the encoder that hands out work; the others are sent home at the end.

    Not where it fails: then they notice that it leaves the process group, whatever they wait for.
    """
    if world_size() == 1:
        yield encoder
        return
    yield _sharing(encoder)
    hand_out([_STOP] * dist.get_world_size())


def serve(encoder: Encoder, dataset: RetrievalDataset) -> None:
    """At the other processes: encode and count what process 0 hands out, until it says stop."""
    work: dict[str, Callable[[Any, int | None], object]] = {
        "ids": lambda part, size: sent(lambda: encoder.encode_token_ids(part, size)),
        "texts": lambda part, size: sent(lambda: encoder.encode_texts(part, size)),
        "images": lambda part, size: sent(lambda: encoder.encode_images(LazyImages(dataset.load_image, part), size)),
        "rank": lambda part, size: _count_along(part[0], part[1], encoder.device),
    }
    while (task := hand_out(None)) != _STOP:
        kind, part, batch_size = task
        # Process 0 knows of it, and decides whether to go on; where the connection is lost the next task says so.
        with suppress(Exception):
            work[kind](part, batch_size)
