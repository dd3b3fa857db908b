"""Several processes give the ranks of one."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
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
