"""Encoding on an accelerator: nothing meets on two devices, and the host waits for features, no more."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from every_class import CLASSES
from fake_device import CUDA, DEVICE, OnDevice, fake_device
from PIL import Image
from torch import Tensor

import clipbias
from clipbias.models import loading
from clipbias.models.build import build_clip
from clipbias.models.clip_encoder import ClipEncoder
from clipbias.models.encoder import Encoder
from clipbias.models.nano import NANO_SHAPE
from clipbias.models.preprocessing import clip_preprocessing
from clipbias.models.tokenizer import ClipTokens
from clipbias.models.towers import text_features

TEXTS = ["a dog", "a cat sits on a mat", "", "red " * 40, "A red star. It is striped."]
IMAGES = [Image.new("RGB", (50, 40), colour) for colour in ("red", "green", "blue")]
READ = "_to_copy.default"


def encoder(device: torch.device) -> ClipEncoder:
    torch.manual_seed(0)
    module = build_clip(NANO_SHAPE).to(device)
    transform = clip_preprocessing(NANO_SHAPE.image_size)
    return ClipEncoder("nano", "test", module, transform, ClipTokens(77), "", {}, device, "fp32")


@pytest.fixture(scope="module")
def on_cpu() -> ClipEncoder:
    return encoder(torch.device("cpu"))


def _reads(device: object, batches: int) -> tuple[list[str], list[str]]:
    """The host's waits, and what it reads ahead: features of each batch; on CUDA it waits once, for all of them."""
    return ([READ] * batches, []) if device is DEVICE else (["synchronize"], [READ] * batches)


@pytest.mark.parametrize("device", [DEVICE, CUDA], ids=["device", "cuda"])
def test_texts(on_cpu: ClipEncoder, device: Any) -> None:
    want = on_cpu.encode_texts(TEXTS, batch_size=2)
    with fake_device() as seen:
        there = encoder(device)
        seen.clear()
        found = there.encode_texts(TEXTS, batch_size=2)
        # Planning the batches asks the device nothing.
        assert (seen.waits, seen.read_ahead) == _reads(device, 3) and not seen.sent
    torch.testing.assert_close(found, want, atol=1e-5, rtol=0)


@pytest.mark.parametrize("device", [DEVICE, CUDA], ids=["device", "cuda"])
def test_images(on_cpu: ClipEncoder, device: Any) -> None:
    want = on_cpu.encode_images(IMAGES, batch_size=2)
    with fake_device() as seen:
        there = encoder(device)
        seen.clear()
        found = there.encode_images(IMAGES, batch_size=2)
        assert (seen.waits, seen.read_ahead) == _reads(device, 2)
        assert device is DEVICE or not seen.sent
    torch.testing.assert_close(found, want, atol=1e-5, rtol=0)


@pytest.mark.parametrize("pads", [False, True])
def test_the_training_towers_never_wait(on_cpu: ClipEncoder, pads: bool) -> None:
    ids = ClipTokens(77)(TEXTS)
    n_pre = torch.tensor([3, 0, 20, 1, 7]) if pads else None
    want = text_features(on_cpu.module.text, ids, None, n_pre, groups=2)
    with fake_device() as seen:
        tower = encoder(DEVICE).module.text
        seen.clear()
        found = text_features(tower, ids, None, n_pre, groups=2)
        assert not seen.waits and not seen.sent
        torch.testing.assert_close(found.cpu(), want, atol=1e-5, rtol=0)


LIBRARIES: dict[str, set[str]] = {
    "open_clip": set(),
    "open_clip SigLIP": set(),
    # Whether any token is masked, and open_clip's own choice of the token that is pooled.
    "open_clip, transformers' text": {"_local_scalar_dense.default", "index.Tensor"},
    "transformers clip": set(),
    "transformers siglip2": {"_local_scalar_dense.default"},  # the sizes of images
}
"""Class of models -> the operators by which the library's own code makes the host wait in each batch."""
TOWER = {"attention": (1, 1), "rollout": (1, 1), "gradients": (0, 2)}
"""What a tower is asked -> numbers that the host reads (where texts end, or which position is pooled), and tensors that
it sends (ids and images)."""


def _asked(encoder: Encoder, images: Tensor) -> dict[str, Callable[[], Tensor]]:
    """What a model is asked for: features in two batches, and what probes look at in its tower."""
    tower, texts = encoder.text_tower(), TEXTS[:3]
    ids = tower.tokens(texts)
    return {
        "texts": partial(encoder.encode_texts, texts, batch_size=2),
        "images": partial(encoder.encode_images, IMAGES, batch_size=2),
        "attention": lambda: tower.attention(ids).weights,
        "rollout": lambda: tower.attention(ids).rollout,
        "gradients": lambda: tower.gradients(ids, images),
    }


@pytest.mark.parametrize("kind", LIBRARIES)
def test_a_model_of_a_library(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    name = CLASSES[kind](tmp_path)
    here = clipbias.load_model(name, device="cpu")
    images = here.encode_images(IMAGES)
    monkeypatch.setattr(loading, "choose_device", lambda device: CUDA)
    with fake_device() as seen:
        there = _asked(clipbias.load_model(name), images)
        for what, ask in _asked(here, images).items():
            want = ask()
            seen.clear()
            found = there[what]()
            waits, sent = ([name for name in names if name not in LIBRARIES[kind]] for names in (seen.waits, seen.sent))
            if what in TOWER:
                reads, tensors = TOWER[what]
                assert set(waits) <= {"_local_scalar_dense.default"} and len(waits) <= reads, what
                assert set(sent) <= {"to"} and len(sent) <= tensors and not seen.read_ahead, what
            else:
                assert (waits, seen.read_ahead) == _reads(CUDA, 2) and not sent, what
            torch.testing.assert_close(found.cpu(), want, atol=1e-5, rtol=0)


def test_a_tensor_left_on_the_cpu_is_found() -> None:
    with fake_device(), pytest.raises(RuntimeError, match="two devices"):
        torch.ones(3).to(DEVICE) + torch.ones(3)


def _indexed(table: Tensor) -> None:
    table[torch.tensor([0, 2])]
    table[torch.tensor([0]), torch.tensor([1])]


MASK = torch.tensor([True, False, True])
ACTS: dict[str, tuple[Callable[[Tensor], object], list[str], list[str]]] = {
    "a truth value": (lambda t: bool((t > 1).any()), ["_local_scalar_dense"], []),
    "a copy": (lambda t: t.cpu(), ["_to_copy"], []),
    "a list": (lambda t: t.tolist(), ["_to_copy"], []),
    "indices of what is not 0": (lambda t: t.nonzero(), ["nonzero"], []),
    "a mask": (lambda t: t[t[:, 0] > 1], ["index"], []),
    "a mask to write to": (lambda t: t.index_put_((t > 1,), t.new_ones(())), ["index_put_"], []),
    "a mask on the CPU": (lambda t: t[MASK], [], ["index"]),
    "indices on the CPU": (_indexed, [], ["index"] * 3),
    "indices": (lambda t: t[torch.arange(2, device=DEVICE)], [], []),
    "so many of each": (lambda t: t.repeat_interleave(t[:, 0].long() * 0 + 2, dim=0), ["repeat_interleave"], []),
    "so many in sum": (lambda t: t.repeat_interleave(t[:, 0].long() * 0 + 2, 0, output_size=6), [], []),
    "runs": (lambda t: torch.unique_consecutive(t), ["unique_consecutive"], []),
    "counts": (lambda t: torch.bincount(t[:, 0].long()), ["bincount"], []),
    "singular values": (lambda t: torch.linalg.svd(t), ["_linalg_svd"], []),
    "eigenvalues": (lambda t: torch.linalg.eigh(t), ["_linalg_eigh"], []),
    "new numbers": (lambda t: torch.tensor([1.0, 2.0], device=DEVICE), [], ["tensor"]),
    "numbers to write": (lambda t: t[0].copy_(torch.ones(3)), [], ["copy_"]),
}
"""What is done with a table [3, 3] -> the host's waits for it, and the copies to it that block."""


@pytest.mark.parametrize("act", ACTS)
def test_a_wait_is_found(act: str) -> None:
    do, waits, sent = ACTS[act]
    with fake_device() as seen:
        table = torch.arange(9.0).view(3, 3).to(DEVICE, non_blocking=True)
        do(table)
    assert [name.split(".")[0] for name in seen.waits] == waits
    assert [name.split(".")[0] for name in seen.sent] == sent
    assert seen.sent_ahead == ["to"]


def test_what_is_on_its_way_to_the_cpu_is_not_there_before_the_host_waits() -> None:
    with fake_device() as seen:
        found = torch.ones(3).to(DEVICE).to("cpu", non_blocking=True)
        assert bool(found.isnan().all()) and seen.read_ahead == [READ] and not seen.waits
        torch.cuda.synchronize()
        assert found.tolist() == [1.0] * 3 and not isinstance(found, OnDevice)


def test_indices_on_the_device_of_a_cpu_tensor_are_refused() -> None:
    with fake_device(), pytest.raises(RuntimeError, match="two devices"):
        torch.ones(3)[torch.tensor([1]).to(DEVICE)]
