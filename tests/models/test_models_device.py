"""Encoding on an accelerator: nothing meets on two devices, and the host waits once per batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fake_device import DEVICE, fake_device
from PIL import Image

from clipbias.models.build import build_clip
from clipbias.models.clip_encoder import ClipEncoder
from clipbias.models.nano import NANO_SHAPE
from clipbias.models.preprocessing import clip_preprocessing
from clipbias.models.tokenizer import ClipTokens
from clipbias.models.towers import text_features
from clipbias.probe.ranking import rank_both

TEXTS = ["a dog", "a cat sits on a mat", "", "red " * 40, "A red star. It is striped."]


def encoder(device: torch.device) -> ClipEncoder:
    torch.manual_seed(0)
    module = build_clip(NANO_SHAPE).to(device)
    transform = clip_preprocessing(NANO_SHAPE.image_size)
    return ClipEncoder("nano", "test", module, transform, ClipTokens(77), "", {}, device, "fp32")


@pytest.fixture(scope="module")
def on_cpu() -> ClipEncoder:
    return encoder(torch.device("cpu"))


def test_texts(on_cpu: ClipEncoder) -> None:
    want = on_cpu.encode_texts(TEXTS, batch_size=2)
    with fake_device() as waits:
        there = encoder(DEVICE)
        waits.clear()
        found = there.encode_texts(TEXTS, batch_size=2)
        # Three batches, each read back once; planning them asks the device nothing.
        assert waits == ["_to_copy.default"] * 3
    torch.testing.assert_close(found, want, atol=1e-5, rtol=0)


def test_images(on_cpu: ClipEncoder) -> None:
    images = [Image.new("RGB", (50, 40), colour) for colour in ("red", "green", "blue")]
    want = on_cpu.encode_images(images, batch_size=2)
    with fake_device() as waits:
        there = encoder(DEVICE)
        waits.clear()
        found = there.encode_images(images, batch_size=2)
        assert waits == ["_to_copy.default"] * 2
    torch.testing.assert_close(found, want, atol=1e-5, rtol=0)


@pytest.mark.parametrize("pads", [False, True])
def test_the_training_towers_never_wait(on_cpu: ClipEncoder, pads: bool) -> None:
    ids = ClipTokens(77)(TEXTS)
    n_pre = torch.tensor([3, 0, 20, 1, 7]) if pads else None
    want = text_features(on_cpu.module.text, ids, None, n_pre, groups=2)
    with fake_device() as waits:
        tower = encoder(DEVICE).module.text
        waits.clear()
        found = text_features(tower, ids, None, n_pre, groups=2)
        assert not waits
        torch.testing.assert_close(found.cpu(), want, atol=1e-5, rtol=0)


def test_ranks_are_read_back_once_whatever_the_number_of_blocks() -> None:
    generator = torch.Generator().manual_seed(0)
    texts, images = (torch.randn(40, 8, generator=generator) for _ in range(2))
    texts[3], owner = texts[2], np.arange(40)
    want = rank_both(texts, images, owner, block=16)
    for block in (7, 16):
        with fake_device() as waits:
            found = rank_both(texts, images, owner, block=block, device=DEVICE)
            assert waits == ["_to_copy.default"] * 10  # five vectors in each direction
        for way, ranking in want.items():
            assert all((a == b).all() for a, b in zip(ranking.counts, found[way].counts, strict=True))


def test_a_tensor_left_on_the_cpu_is_found() -> None:
    with fake_device(), pytest.raises(RuntimeError, match="two devices"):
        torch.ones(3).to(DEVICE) + torch.ones(3)


def test_a_wait_is_found() -> None:
    with fake_device() as waits:
        tensor = torch.arange(3.0).to(DEVICE)
        bool((tensor > 1).any())
        tensor.cpu()
        tensor.nonzero()
    assert [name.split(".")[0] for name in waits] == ["_local_scalar_dense", "_to_copy", "nonzero"]
