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
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor

from clipbias.data.dataset import RetrievalDataset
from clipbias.data.image_loaders import LazyImages
from clipbias.errors import UserError
from clipbias.models.encoder import Encoder
from clipbias.probe.blocks import share_of_rows
from clipbias.probe.counting import Counts, Share, Work, count
from clipbias.probe.ranking import Count, count_alone

if TYPE_CHECKING:
    from PIL import Image

_STOP = "stop"


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
    """
    if world_size() == 1:
        yield 0
        return
    dist.init_process_group(backend)
    try:
        yield dist.get_rank()
        # None leaves while another still talks: one that tears down its connections early can abort the others.
        dist.barrier()
    finally:
        dist.destroy_process_group()


def _share(count: int, rank: int, size: int) -> slice:
    """The ``rank``-th of ``size`` contiguous shares of ``count`` items."""
    return slice(count * rank // size, count * (rank + 1) // size)


def _split(items: Any) -> list[Any]:
    return [items[_share(len(items), rank, dist.get_world_size())] for rank in range(dist.get_world_size())]


def _hand_out(parts: list[Any] | None) -> Any:
    """This process's part of what process 0 has."""
    out: list[Any] = [None]
    dist.scatter_object_list(out, parts, src=0)
    return out[0]


def _gather(encode: Callable[[], Tensor]) -> Tensor:
    """At process 0, the features of all processes in their order; elsewhere this one's.

    Raises:
        UserError: one of them failed; all take part in the gathering before, so that none waits for ever.
    """
    features, failed = torch.empty(0), None
    try:
        features = encode()
    except Exception as error:
        failed = error
    report = f"process {dist.get_rank()}: {failed}" if failed is not None else features
    parts: list[Any] | None = [None] * dist.get_world_size() if dist.get_rank() == 0 else None
    dist.gather_object(report, parts, dst=0)
    if parts is None:
        return features
    if failed is not None:
        raise failed
    broken = [part for part in parts if isinstance(part, str)]
    if broken:
        raise UserError("; ".join(broken))
    return torch.cat(parts)


class SharedEncoder(Encoder):
    """Process 0's encoder: encodes a share of what it is asked for, and has the others encode the rest."""

    _alone: Encoder

    def encode_token_ids(self, ids: Tensor, batch_size: int | None = None) -> Tensor:
        """See `Encoder.encode_token_ids`."""
        if len(ids) < dist.get_world_size():
            return self._alone.encode_token_ids(ids, batch_size)
        # A view would be sent with the whole tensor that it is a part of.
        mine = _hand_out([("ids", part.clone(), batch_size) for part in _split(ids)])
        return _gather(lambda: self._alone.encode_token_ids(*mine[1:]))

    def encode_texts(self, texts: Sequence[str], batch_size: int | None = None) -> Tensor:
        """See `Encoder.encode_texts`."""
        if len(texts) < dist.get_world_size():
            return self._alone.encode_texts(texts, batch_size)
        mine = _hand_out([("texts", list(part), batch_size) for part in _split(texts)])
        return _gather(lambda: self._alone.encode_texts(*mine[1:]))

    def encode_images(self, images: Sequence[Image.Image | str | Path], batch_size: int | None = None) -> Tensor:
        """See `Encoder.encode_images`; the data set's own images are shared, others are encoded here."""
        if not isinstance(images, LazyImages) or len(images) < dist.get_world_size():
            return self._alone.encode_images(images, batch_size)
        mine = _hand_out([("images", list(part), batch_size) for part in _split(images.indices)])
        return _gather(lambda: self._alone.encode_images(LazyImages(images.load, mine[1]), batch_size))


def _sharing(encoder: Encoder) -> Encoder:
    """The encoder with its work shared: of its own class, so that all else that it can do stays."""
    kind = type(f"Sharing{type(encoder).__name__}", (SharedEncoder, type(encoder)), {})
    made: Any = object.__new__(kind)
    made.__dict__.update(encoder.__dict__)
    made._alone = encoder
    return made


def count_together(work: Work, texts: Tensor, images: Tensor, device: torch.device) -> Counts:
    """At process 0: counts of all processes, each with a share of the images (`clipbias.probe.ranking.rank_both`)."""
    size = dist.get_world_size()
    shares = [share_of_rows(len(images), work.block, rank, size) for rank in range(size)]
    # Cloned: a view would be sent with the whole tensor that it is a part of.
    parts = [("rank", (work, rows, images[rows.start : rows.stop].clone()), None) for rows in shares[1:]]
    _hand_out([None, *parts])
    mine = images[: shares[0].stop].to(device)
    return _count_share(work, shares[0], mine, lambda first: texts[first : first + work.block].contiguous())


def _count_share(work: Work, rows: range, images: Tensor, texts: Callable[[int], Tensor]) -> Counts:
    """This process' part of `count_together`; ``texts`` gives process 0 a block, the others memory for it."""
    device = images.device

    def lines(first: int) -> Tensor:
        part = texts(first)
        dist.broadcast(part, src=0)
        return part.to(device)

    def total(part: Tensor, how: str) -> Tensor:
        whole = part.cpu()
        dist.all_reduce(whole, dist.ReduceOp.MAX if how == "max" else dist.ReduceOp.SUM)
        return whole.to(device)

    return count(work, Share(rows, images, lines, total))


def counter(encoder: Encoder) -> Count:
    """Who counts ranks of an encoder's features: all processes, where they serve it."""
    return count_together if isinstance(encoder, SharedEncoder) else count_alone


@contextmanager
def shared(encoder: Encoder) -> Iterator[Encoder]:
    """At process 0: the encoder that hands out work; the others are sent home at the end, whatever happened."""
    if world_size() == 1:
        yield encoder
        return
    try:
        yield _sharing(encoder)
    finally:
        _hand_out([_STOP] * dist.get_world_size())


def serve(encoder: Encoder, dataset: RetrievalDataset) -> None:
    """At the other processes: encode and count what process 0 hands out, until it says stop."""
    work: dict[str, Callable[[Any, int | None], Tensor]] = {
        "ids": encoder.encode_token_ids,
        "texts": encoder.encode_texts,
        "images": lambda part, size: encoder.encode_images(LazyImages(dataset.load_image, part), size),
    }
    while (task := _hand_out(None)) != _STOP:
        kind, part, batch_size = task
        if kind == "rank":
            asked, rows, images = part

            def memory(first: int, asked: Work = asked) -> Tensor:
                return torch.empty(min(asked.block, asked.rows - first), asked.width)

            _count_share(asked, rows, images.to(encoder.device), memory)
            continue
        _gather(partial(work[kind], part, batch_size))
