"""Probes on an accelerator: nothing meets on two devices, and the host waits where a result has to be read, no more."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
import torch.distributed as dist
from fake_device import CUDA, DEVICE, fake_device

import clipbias
from clipbias.data.dataset import RetrievalDataset
from clipbias.data.kept import with_kept_images
from clipbias.data.limited import limited
from clipbias.data.loading import load_dataset
from clipbias.models import loading
from clipbias.models.compute import TorchEncoder
from clipbias.models.encoder import Encoder
from clipbias.models.libraries.openclip_tower import OpenClipTower
from clipbias.probe import ranking, session
from clipbias.probe.counting import DIRECTIONS
from clipbias.probe.distributed import count_together
from clipbias.probe.ranking import Count, Ranking, count_alone, leaders, rank_both
from clipbias.probe.run import run_probe
from clipbias.probe.session import Session
from clipbias.probe.spec import find_probes
from clipbias.results.folder import read_rows

READ = "_to_copy.default"
RANKS = [READ] * len(fields(Ranking)) * len(DIRECTIONS)
"""Ranks are read back once: a vector for each of their parts, in each direction."""
_LESS: dict[str, dict[str, object]] = {
    "shift": {"shifts": [0, 40]},
    "shapley": {"captions": 2},
    "influence": {"captions": 2},
}
ALL = find_probes("all")
# One of each kind, and one that changes ids.
PROBES = {probe.name: probe for probe in ALL if probe.name in (probe.kind, "drop-first", "place", "token-padding")}


@pytest.fixture(scope="module")
def scenes() -> RetrievalDataset:
    return with_kept_images(limited(load_dataset("scenes"), 6))


@pytest.fixture(scope="module")
def on_cpu() -> Encoder:
    return clipbias.load_model("nano-longclip", device="cpu")


@pytest.fixture(scope="module")
def on_device() -> Encoder:
    with mock.patch.object(loading, "choose_device", lambda device: CUDA), fake_device():
        return clipbias.load_model("nano-longclip")


@contextmanager
def waits_due() -> Iterator[list[str]]:
    """What the host may wait for in the block, as it comes: features of each batch of texts and images that is encoded,
    ranks, the first images, and of a tower its attention and gradients."""
    costs: dict[tuple[Any, str], Callable[..., list[str]]] = {
        (TorchEncoder, "encode_token_ids"): lambda *_: ["synchronize"],
        (TorchEncoder, "encode_images"): lambda *_: ["synchronize"],
        (session, "rank_both"): lambda *_: RANKS,
        (session, "leaders"): lambda texts, images, owner, row, chosen, *_: [READ] * bool(len(chosen)),
        # Where the longest text ends; the weights and the rollout, read by the probe.
        (OpenClipTower, "attention"): lambda *_: ["_local_scalar_dense.default", READ, READ],
        (OpenClipTower, "gradients"): lambda *_: [READ],
    }
    due: list[str] = []

    def told(real: Callable[..., Any], cost: Callable[..., list[str]]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            due.extend(cost(*args))
            return real(*args, **more)

        return call

    with ExitStack() as stack:
        for (owner, name), cost in costs.items():
            stack.enter_context(mock.patch.object(owner, name, told(getattr(owner, name), cost)))
        yield due


@pytest.mark.parametrize("name", PROBES)
def test_a_probe_answers_as_on_the_cpu(
    name: str, on_cpu: Encoder, on_device: Encoder, scenes: RetrievalDataset, tmp_path: Path
) -> None:
    probe = PROBES[name]
    probe = replace(probe, conditions=probe.conditions[:2], settings={**probe.settings, **_LESS.get(name, {})})
    wanted = read_rows(run_probe(Session(on_cpu, scenes), probe, tmp_path / "cpu"))
    with fake_device() as seen, waits_due() as due:
        found = read_rows(run_probe(Session(on_device, scenes), probe, tmp_path / "device"))
    assert due and Counter(seen.waits) == Counter(due)
    assert len(found) == len(wanted)
    for mine, theirs in zip(found, wanted, strict=True):
        assert asdict(mine) == pytest.approx(asdict(theirs), abs=1e-4)


def test_a_probe_of_every_kind_is_asked() -> None:
    assert {probe.kind for probe in PROBES.values()} == {probe.kind for probe in ALL}


@pytest.fixture(params=[count_alone, count_together], ids=["alone", "together"])
def count(request: pytest.FixtureRequest) -> Iterator[Count]:
    """Who counts; the processes that share the work are one."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield request.param
    dist.destroy_process_group()


@pytest.mark.parametrize("block", [7, 16])
def test_ranks_are_read_back_once_whatever_the_number_of_blocks(count: Count, block: int) -> None:
    generator = torch.Generator().manual_seed(0)
    texts, images = (torch.randn(40, 8, generator=generator) for _ in range(2))
    texts[3], owner = texts[2], np.arange(40)
    wanted = rank_both(texts, images, owner, block=16)
    with fake_device() as seen:
        found = rank_both(texts, images, owner, block=block, device=DEVICE, count=count)
    # Processes add theirs up on the CPU first: the sums, the best in each pass, and the rival.
    assert seen.waits == RANKS * (1 if count is count_alone else 2)
    if count is count_alone:
        assert seen.sent == ["to"] * 2  # the features of both sides; what belongs to a block does not hold it up
    for way, theirs in wanted.items():
        for mine, other in zip(asdict(found[way]).values(), asdict(theirs).values(), strict=True):
            np.testing.assert_allclose(mine, other, atol=1e-6)


def test_the_first_images_are_read_back_once_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    texts, images = (torch.randn(40, 8, generator=generator) for _ in range(2))
    owner, row, chosen = np.arange(40) // 2, np.arange(40)[::-1].copy(), np.arange(3, 37)
    images = images[:20]
    wanted = leaders(texts, images, owner, row, chosen)
    monkeypatch.setattr(ranking, "BLOCK", 15)  # of 20 columns: 11 lines
    with fake_device() as seen:
        found = leaders(texts, images, owner, row, chosen, DEVICE)
    assert seen.waits == [READ] * math.ceil(len(chosen) / 11)
    np.testing.assert_array_equal(found, wanted)
