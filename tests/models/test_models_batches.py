"""Batches: read ahead in order, and halved where they do not fit into memory."""

from __future__ import annotations

import copy
import threading
import time

import pytest
import torch
from small_training import SMALL

import clipbias
from clipbias.ahead import MOST, cores, prefetched
from clipbias.errors import UserError
from clipbias.models.blocks import compile_blocks
from clipbias.models.build import build_clip
from clipbias.models.clip_encoder import ClipEncoder
from clipbias.models.preprocessing import clip_preprocessing
from clipbias.models.tokenizer import ClipTokens
from clipbias.models.towers import text_features
from clipbias.models.wrapped import WrappedEncoder
from clipbias.probe.store import space_of
from clipbias.scenes import render, sample_scene


def test_items_come_in_order_and_never_more_than_ahead_wait():
    lock, made, read, most = threading.Lock(), [0], [0], [0]

    def make(index: int) -> torch.Tensor:
        time.sleep(0.002 * (index % 3))
        with lock:
            made[0] += 1
            most[0] = max(most[0], made[0] - read[0])
        return torch.tensor(index)

    found = []
    for item in prefetched(make, 40, ahead=6, workers=4):
        found.append(int(item))
        with lock:
            read[0] += 1
    assert found == list(range(40)) and most[0] <= 6 + 2
    assert list(prefetched(make, 0, ahead=3)) == []


@pytest.mark.parametrize(
    ("allowed", "processes", "wanted"), [(64, 1, MOST), (64, 8, 8), (6, 4, 1), (2, 8, 1), (3, 0, 3)]
)
def test_the_processes_of_a_machine_share_its_cores(allowed, processes, wanted, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(allowed)), raising=False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    if processes:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    assert cores() == wanted


def test_an_error_comes_at_its_place_and_stops_the_rest():
    made = []

    def make(index: int) -> torch.Tensor:
        made.append(index)
        if index == 5:
            raise UserError("image 5 is bad")
        return torch.tensor(index)

    found = []
    with pytest.raises(UserError, match="image 5 is bad"):
        for item in prefetched(make, 1_000, ahead=4, workers=2):
            found.append(int(item))
    assert found == [0, 1, 2, 3, 4] and len(made) < 30


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: not enough memory")]
)
def test_a_batch_that_does_not_fit_goes_through_in_halves(monkeypatch, error):
    encoder = clipbias.load_model("nano-clip")
    texts = [f"A red circle and {i} blue squares." + " More." * (i % 7) for i in range(30)]
    images = [render(sample_scene("test", i)) for i in range(20)]
    whole = encoder.encode_texts(texts), encoder.encode_images(images)
    sizes = []
    real = encoder._features

    def tight(tower, batch):
        sizes.append(len(next(iter(batch.values()))))
        if sizes[-1] > 4:
            raise error
        return real(tower, batch)

    monkeypatch.setattr(encoder, "_features", tight)
    for found, expected in zip((encoder.encode_texts(texts), encoder.encode_images(images)), whole, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    assert max(sizes) > 4 and sum(size for size in sizes if size <= 4) == 50

    def never(tower, batch):
        raise error

    monkeypatch.setattr(encoder, "_features", never)
    with pytest.raises(UserError, match="one input does not fit into the memory of cpu"):
        encoder.encode_texts(texts)


def test_other_errors_are_not_taken_for_a_full_memory(monkeypatch):
    encoder = clipbias.load_model("nano-clip")

    def broken(tower, batch):
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(encoder, "_features", broken)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        encoder.encode_texts(["a"])


def test_compiled_towers_give_the_same_features_and_say_so(compiler):
    module = build_clip(SMALL).eval()
    encoder, compiled = (
        ClipEncoder(
            "small", "nano", copy.deepcopy(module), clip_preprocessing(48), ClipTokens(77), "one", {},
            torch.device("cpu"), "fp32",
        )
        for _ in range(2)
    )  # fmt: skip
    compiled.compile()
    images = [render(sample_scene("test", i)) for i in range(5)]
    torch.testing.assert_close(compiled.encode_images(images), encoder.encode_images(images), atol=1e-5, rtol=0)
    texts = ["a red circle", "a blue square at the top " * 3]
    torch.testing.assert_close(compiled.encode_texts(texts), encoder.encode_texts(texts), atol=1e-5, rtol=0)
    assert space_of(compiled, "images") != space_of(encoder, "images")


def test_a_compiled_block_serves_every_block_and_length_with_the_same_gradients():
    # The graphs are those of the real compiler; what runs them is PyTorch, as no compiler may be here.
    towers = [build_clip(SMALL).text for _ in range(2)]
    towers[1].load_state_dict(towers[0].state_dict())
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    compile_blocks(towers[1], backend="aot_eager")
    tokens, pads = ClipTokens(77), torch.tensor([0, 9, 30])
    for words in (3, 14, 40):
        ids = tokens(["red " * words, "a circle", "blue " * 2])
        found = []
        for tower in towers:
            tower.zero_grad()
            both = torch.cat([text_features(tower, ids), text_features(tower, ids, n_pre=pads, groups=None)])
            both.square().mean().backward()
            found.append((both.detach(), [p.grad.clone() for p in tower.parameters() if p.grad is not None]))
        torch.testing.assert_close(found[1], found[0], atol=1e-5, rtol=1e-4)
    # Two pieces of a block; PyTorch may look at the first call's sizes once more when others come.
    assert 2 <= torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 4


def test_a_model_of_ones_own_is_not_compiled():
    class Mine:
        def encode_texts(self, texts):
            return torch.ones(len(texts), 2)

        encode_images = encode_texts

    with pytest.raises(UserError, match="mine: only models of open_clip's modules can be compiled"):
        WrappedEncoder(Mine(), "mine", torch.device("cpu"), "fp32").compile()
