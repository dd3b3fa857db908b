"""Several processes give the ranks of one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hub_models import write_hub_folder
from PIL import Image

from clipbias.results.folder import load_runs
from clipbias.scenes import long_caption, render, sample_scene


def probe(data, out, processes: int, *more: str) -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable, "-m"]
    if processes > 1:
        launcher += ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    command = ["clipbias", "probe", "padding", "token-padding", "--model", "nano-debias", "--data", str(data)]
    return subprocess.run(
        [*launcher, *command, "--out", str(out), "--device", "cpu", *more], capture_output=True, text=True, timeout=300
    )


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for i in range(31):
        render(sample_scene("test", i)).save(folder / f"{i:02}.png")
        (folder / f"{i:02}.txt").write_text(" ".join(s.text for s in long_caption(sample_scene("test", i))))
    return folder


def test_three_processes_give_the_ranks_of_one(data, tmp_path):
    alone = probe(data, tmp_path / "one", 1, "--no-cache")
    several = probe(data, tmp_path / "three", 3, "--no-cache")
    assert (alone.returncode, several.returncode) == (0, 0), several.stderr[-3000:]
    # What is printed is printed once.
    assert several.stdout.count("results:") == 1
    one, three = (load_runs([tmp_path / name]) for name in ("one", "three"))
    assert len(one) == len(three) == 2
    for mine, theirs in zip(one, three, strict=True):
        assert mine.run.probe == theirs.run.probe and mine.queries["better"].equals(theirs.queries["better"])
        np.testing.assert_allclose(mine.queries["cosine"], theirs.queries["cosine"], atol=1e-6)


def test_a_bad_image_ends_all_processes_with_one_line(data, tmp_path):
    (data / "07.png").write_bytes(b"no image")
    done = probe(data, tmp_path / "out", 2)
    assert done.returncode != 0 and "1 of 31 images cannot be read" in done.stderr
    assert not list((tmp_path / "out").rglob("run.json"))
    Image.new("RGB", (8, 8)).save(data / "07.png")
    assert probe(data, tmp_path / "out", 2).returncode == 0


def test_any_encoder_shares_its_work_by_the_interface(tmp_path):
    """Two processes with a model of transformers, and with a user's object: features of one process."""
    script = tmp_path / "share.py"
    script.write_text(SHARE)
    write_hub_folder("clip", tmp_path / "model")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    done = subprocess.run(
        [*launcher, str(tmp_path)], capture_output=True, text=True, timeout=300, cwd=Path(__file__).parents[2]
    )
    assert done.returncode == 0, done.stderr[:3000]
    for found in torch.load(tmp_path / "found.pt", weights_only=True):
        # Each process encoded its share and nothing else.
        assert found["counts"].tolist() == [[3, 2], [3, 3]]
        for name in ("texts", "images"):
            torch.testing.assert_close(*found[name], atol=1e-6, rtol=0, msg=name)


SHARE = """
import sys
from pathlib import Path
from pathlib import Path
import torch, torch.distributed as dist
import clipbias
from clipbias.data.image_loaders import LazyImages
from clipbias.models.wrapped import WrappedEncoder
from clipbias.probe.distributed import process_group, serve, shared

folder = Path(sys.argv[1])
dataset = clipbias.load_dataset("scenes", split="validation")
texts = [f"a dog number {n}" for n in range(6)]
images = LazyImages(dataset.load_image, range(5))


class Mine:
    context_length = 77
    def encode_texts(self, texts): return torch.tensor([[len(t), t.count("1") + 1.0, 3.0] for t in texts])
    def encode_images(self, images): return torch.tensor([[i.getpixel((3, 3))[0], 2.0, 3.0] for i in images])


def tried(encoder, number):
    counts = [0, 0]
    for place, name in enumerate(("encode_texts", "encode_images")):
        def counted(items, size=None, place=place, own=getattr(encoder, name)):
            counts[place] += len(items)
            return own(items, size)
        setattr(encoder, name, counted)
    found = {}
    if number:
        serve(encoder, dataset)
    else:
        with shared(encoder) as working:
            for name in ("encode_texts", "encode_images"):
                working.__dict__.pop(name)
            assert isinstance(working, type(encoder)) and working.name == encoder.name
            found = {"texts": working.encode_texts(texts), "images": working.encode_images(images)}
    every = [None, None]
    dist.all_gather_object(every, list(counts))
    if not number:
        found["counts"] = torch.tensor(every)
        found["texts"] = (found["texts"], encoder.encode_texts(texts))
        found["images"] = (found["images"], encoder.encode_images(images))
    return found


with process_group() as number:
    hub = clipbias.load_model(str(folder / "model"), device="cpu")
    mine = WrappedEncoder(Mine(), "mine", torch.device("cpu"), "fp32")
    every = [tried(hub, number), tried(mine, number)]
    if not number:
        torch.save(every, folder / "found.pt")
"""
