"""On a real GPU: features, ranks and trainings are those of the CPU.

CLIPBIAS_TEST_DEVICE=cpu runs the same code on a CPU.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_training import start

import clipbias
from clipbias.data.loading import load_dataset
from clipbias.finetune.recipes import DEBIAS
from clipbias.finetune.train import train
from clipbias.models.build import ClipShape, build_clip
from clipbias.models.clip_encoder import ClipEncoder
from clipbias.models.preprocessing import clip_preprocessing
from clipbias.models.tokenizer import ClipTokens
from clipbias.probe.ranking import per_query_metrics, rank_both
from clipbias.results.folder import load_runs
from clipbias.scenes import long_caption, render, sample_scene

DEVICE = os.environ.get("CLIPBIAS_TEST_DEVICE", "cuda")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(DEVICE == "cuda" and not torch.cuda.is_available(), reason="no CUDA device"),
]
B16 = ClipShape(512, 224, 16, 768, 12, 512, 12, 248)
TEXTS = ["a dog", "a cat sits on a mat", "", "red " * 200, "A red star. It is striped."]


def encoder(device: str, precision: str = "fp32") -> ClipEncoder:
    """B/16 with random weights."""
    torch.manual_seed(0)
    module = build_clip(B16).to(device)
    return ClipEncoder(
        "b16", "test", module, clip_preprocessing(224), ClipTokens(248), "", {}, torch.device(device), precision
    )


@pytest.fixture(scope="module")
def on_cpu() -> tuple[torch.Tensor, torch.Tensor]:
    model = encoder("cpu")
    return model.encode_texts(TEXTS), model.encode_images(images())


def images() -> list[Image.Image]:
    generator = np.random.default_rng(0)
    return [Image.fromarray(generator.integers(0, 256, (200, 300, 3), dtype=np.uint8)) for _ in range(4)]


@pytest.fixture
def tf32() -> Iterator[None]:
    """A user's own setting outside of clipbias."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    yield
    torch.backends.cuda.matmul.allow_tf32 = before


@pytest.mark.usefixtures("tf32")
def test_fp32_features_are_the_cpus_whatever_is_allowed_outside(on_cpu):
    model = encoder(DEVICE)
    torch.testing.assert_close(model.encode_texts(TEXTS), on_cpu[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(model.encode_images(images()), on_cpu[1], atol=1e-5, rtol=0)


def test_bf16_features_have_a_cosine_of_0_999_with_the_cpus(on_cpu):
    model = encoder(DEVICE, "bf16")
    for found, wanted in zip((model.encode_texts(TEXTS), model.encode_images(images())), on_cpu, strict=True):
        assert (found * wanted).sum(dim=1).min() > 0.999


def test_bf16_moves_recall_by_0_3_points_at_most():
    dataset, recall = load_dataset("scenes"), {}
    pictures = [dataset.load_image(i) for i in range(len(dataset.image_names))]
    for device, precision in (("cpu", "fp32"), (DEVICE, "fp32"), (DEVICE, "bf16")):
        model = clipbias.load_model("nano-longclip", device=device, precision=precision)
        found = rank_both(
            model.encode_texts(dataset.captions), model.encode_images(pictures), dataset.caption_image, device=device
        )
        recall[device, precision] = {w: per_query_metrics(r)["recall@1"].mean() for w, r in found.items()}
    for way, value in recall["cpu", "fp32"].items():
        assert abs(recall[DEVICE, "fp32"][way] - value) < 0.001 + 1e-9
        assert abs(recall[DEVICE, "bf16"][way] - value) < 0.003 + 1e-9


@pytest.mark.usefixtures("tf32")
def test_ranks_are_the_cpus():
    generator = torch.Generator().manual_seed(0)
    # Small whole numbers: their products are exact, and ties common. TF32 would keep 11 bits of 2,049.
    texts, pictures = (torch.randint(-2, 3, (n, 64), generator=generator).float() for n in (900, 300))
    texts[:, 0] = pictures[:, 0] = 2049.0
    owner = np.arange(900) % 300
    wanted = rank_both(texts, pictures, owner, block=128)
    found = rank_both(texts, pictures, owner, block=128, device=DEVICE)
    for way, ranking in wanted.items():
        for name, values in ranking.__dict__.items():
            np.testing.assert_array_equal(getattr(found[way], name), values)


def test_a_resumed_training_ends_in_the_same_bits(tmp_path):
    recipe = DEBIAS.override(batch_size=8, steps=6, lr=1e-3, warmup=2, pca_dim=3, precision="bf16", deterministic=True)

    class Enough(Exception):
        pass

    def stop(step: int, steps: int, values: dict[str, float]) -> None:
        if step == 3:
            raise Enough

    model, maker = start(recipe)
    train(model.to(DEVICE), maker, recipe, tmp_path / "whole")
    model, maker = start(recipe)
    with pytest.raises(Enough):
        train(model.to(DEVICE), maker, recipe, tmp_path / "cut", save_every=0.0, progress=stop)
    model, maker = start(recipe)
    train(model.to(DEVICE), maker, recipe, tmp_path / "cut", resume=True)
    one, two = (torch.load(tmp_path / name / "state.pt", weights_only=True)["model"] for name in ("whole", "cut"))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_two_processes_on_one_gpu_give_the_ranks_of_one(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for i in range(12):
        render(sample_scene("test", i)).save(data / f"{i:02}.png")
        (data / f"{i:02}.txt").write_text(" ".join(s.text for s in long_caption(sample_scene("test", i))))
    tables = []
    for count in (1, 2):
        launcher = [sys.executable, "-m"]
        if count == 2:
            launcher += ["torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
        command = ["clipbias", "probe", "padding", "--model", "nano-debias", "--data", str(data), "--no-cache"]
        done = subprocess.run(
            [*launcher, *command, "--device", DEVICE, "--out", str(tmp_path / str(count))],
            capture_output=True, text=True, timeout=300,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        (run,) = load_runs([tmp_path / str(count)])
        tables.append(run.queries)
    assert tables[0]["better"].equals(tables[1]["better"])
