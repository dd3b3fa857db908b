"""Several processes give the ranks of one."""

from __future__ import annotations

import math
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from hub_models import write_hub_folder
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from processes import command_line, launch, script, start, torchrun

from clipbias.probe.blocks import share_of_rows
from clipbias.probe.ranking import rank_both
from clipbias.results.folder import load_runs
from clipbias.scenes import long_caption, render, sample_scene


def probe(data: Path, out: Path, count: int, *more: str) -> tuple[int, str, str]:
    """The command in several processes: exit code, stdout, stderr."""
    command = ("probe", "padding", "token-padding", "--model", "nano-debias", "--data", data, "--out", out, *more)
    return launch(out.with_suffix(".printed"), count, command_line, *command, "--device", "cpu")


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
    assert (alone[0], several[0]) == (0, 0), several[2][-3000:]
    # What is printed is printed once.
    assert several[1].count("results:") == 1
    one, three = (load_runs([tmp_path / name]) for name in ("one", "three"))
    assert len(one) == len(three) == 2
    for mine, theirs in zip(one, three, strict=True):
        assert mine.run.probe == theirs.run.probe and mine.queries["better"].equals(theirs.queries["better"])
        np.testing.assert_allclose(mine.queries["cosine"], theirs.queries["cosine"], atol=1e-6)


def test_the_torchrun_command_of_the_docs_runs(tmp_path):
    text = (Path(__file__).parents[2] / "docs" / "scale.md").read_text("utf-8")
    (line,) = [line.strip() for line in text.splitlines() if line.startswith("    torchrun --standalone")]
    launcher, *command = shlex.split(line)
    assert launcher == "torchrun" and "--nproc-per-node=2" in command and command[-2:] == ["--out", "results"]
    code, _, errors = start(tmp_path / "printed", torchrun, *command[:-1], tmp_path / "results").finish(300)
    assert code == 0, errors[-3000:]
    (run,) = load_runs([tmp_path / "results"])
    assert set(run.queries["query"]) == set(range(40))


def test_a_bad_image_ends_all_processes_with_one_line(data, tmp_path):
    (data / "07.png").write_bytes(b"no image")
    code, _, errors = probe(data, tmp_path / "out", 2)
    assert code == 2 and "1 of 31 images cannot be read" in errors and "Traceback" not in errors
    assert not list((tmp_path / "out").rglob("run.json"))
    Image.new("RGB", (8, 8)).save(data / "07.png")
    assert probe(data, tmp_path / "out", 2)[0] == 0


def test_any_encoder_shares_its_work_by_the_interface(tmp_path):
    """Two processes with a model of transformers, and with a user's object: features of one process."""
    path = tmp_path / "share.py"
    path.write_text(SHARE)
    write_hub_folder("clip", tmp_path / "model")
    code, _, errors = launch(tmp_path, 2, script, path, tmp_path)
    assert code == 0, errors[:3000]
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


@given(st.integers(1, 5000), st.integers(1, 600), st.integers(1, 9))
def test_shares_are_all_rows_once_in_whole_blocks_and_fall_with_their_number(count, block, size):
    shares = [share_of_rows(count, block, rank, size) for rank in range(size)]
    assert [row for share in shares for row in share] == list(range(count))
    assert all(share.start % block == 0 for share in shares if len(share))
    blocks = math.ceil(count / block)
    assert max(map(len, shares)) <= math.ceil(blocks / size) * block


def features(case: int) -> tuple[torch.Tensor, torch.Tensor, np.ndarray, np.ndarray | None]:
    """Texts, images, owners, rows: one caption an image; several, with ties and shared texts; fewer than a block."""
    generator = torch.Generator().manual_seed(case)
    images = torch.nn.functional.normalize(torch.randn(7 if case == 2 else 150, 48, generator=generator), dim=1)
    images[3:6] = images[1]
    count = len(images)
    owner = np.arange(count) if case == 0 else np.random.default_rng(case).permutation(np.arange(3 * count) % count)
    row = None if case == 0 else owner // 2
    texts = images[: count if row is None else row.max() + 1]
    return (
        torch.nn.functional.normalize(texts + 0.5 * torch.randn(texts.shape, generator=generator), dim=1),
        images,
        owner,
        row,
    )


WORKER = """
import sys
sys.path.insert(0, sys.argv[2])
import numpy as np
import torch
from test_probe_distributed import features
from clipbias.models.loading import load_model
from clipbias.probe.distributed import counter, process_group, serve, shared
from clipbias.probe.ranking import rank_both
with process_group() as number:
    encoder = load_model("nano-clip", device="cpu")
    if number:
        serve(encoder, None)
    else:
        with shared(encoder) as working:
            for case in range(3):
                texts, images, owner, row = features(case)
                found = rank_both(texts, images, owner, row, block=32, count=counter(working))
                for way, ranking in found.items():
                    np.savez(f"{sys.argv[1]}/{case}-{way}.npz", **ranking.__dict__)
"""


def test_ranks_shared_by_two_processes_are_those_of_one_to_the_bit(tmp_path):
    (tmp_path / "worker.py").write_text(WORKER)
    code, _, errors = launch(tmp_path, 2, script, tmp_path / "worker.py", tmp_path, Path(__file__).parent)
    assert code == 0, errors[-3000:]
    for case in range(3):
        texts, images, owner, row = features(case)
        for way, mine in rank_both(texts, images, owner, row, block=32).items():
            theirs = np.load(tmp_path / f"{case}-{way}.npz")
            for name, values in mine.__dict__.items():
                assert theirs[name].dtype == values.dtype and theirs[name].tobytes() == values.tobytes(), (
                    case,
                    way,
                    name,
                )
