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


UNEVEN = """
import sys, time
sys.path.insert(0, sys.argv[2])
import dataclasses, datetime
from pathlib import Path
import numpy as np
import torch
import torch.distributed.distributed_c10d as c10d
from test_probe_distributed import features
from clipbias.models.wrapped import WrappedEncoder
from clipbias.probe import distributed
from clipbias.probe.ranking import rank_both

out, what, failing = Path(sys.argv[1]), sys.argv[3], int(sys.argv[4])
own, calls = distributed.count, []


def count(work, share):
    def lines(first):
        calls.append(first)
        if len(calls) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return share.lines(first)

    return own(work, dataclasses.replace(share, lines=lines))


class Mine:
    context_length = 77

    def encode_texts(self, texts):
        if what == "encoding" and "bad" in texts:
            raise ValueError("a bad text")
        return torch.ones(len(texts), 2)

    encode_images = encode_texts


def run(number):
    encoder = WrappedEncoder(Mine(), "mine", torch.device("cpu"), "fp32")
    if number == failing and what != "encoding":
        distributed.count = count
    if number:
        return distributed.serve(encoder, None)
    with distributed.shared(encoder) as working:
        if what == "pause":
            time.sleep(1.5)
        if what == "encoding":
            texts = ["good"] * 4
            texts[-failing] = "bad"
            working.encode_texts(texts)
        for attempt in range(2):
            try:
                found = rank_both(*features(1), block=32, count=distributed.counter(working))
            except Exception as error:
                if what != "goes on":
                    raise
                (out / "told.txt").write_text(f"{type(error).__name__}: {error}")
        np.savez(out / "found.npz", **{f"{way} {k}": v for way, r in found.items() for k, v in r.__dict__.items()})


c10d.default_pg_timeout = datetime.timedelta(seconds=0.5)
rank = "?"
try:
    with distributed.process_group() as rank:
        run(rank)
except Exception as error:
    (out / f"{rank}.txt").write_text(f"{type(error).__name__}: {error}")
if what == "lingers" and rank == 0:
    # It has left the group, and is still there: the others do not wait for its end.
    until = time.monotonic() + 60
    while not (out / "1.txt").exists():
        assert time.monotonic() < until
        time.sleep(0.01)
"""


def uneven(folder: Path, what: str, failing: int = -1) -> dict[str, str]:
    """Two processes rank together; the errors that they ended with, and process 0's ranks checked where there are."""
    (folder / "uneven.py").write_text(UNEVEN)
    code, _, errors = launch(folder, 2, script, folder / "uneven.py", folder, Path(__file__).parent, what, failing)
    assert code == 0, errors[-3000:]
    if (folder / "found.npz").exists():
        found = np.load(folder / "found.npz")
        for way, mine in rank_both(*features(1), block=32).items():
            for name, values in mine.__dict__.items():
                assert found[f"{way} {name}"].tobytes() == values.tobytes()
    return {path.stem: path.read_text() for path in folder.glob("*.txt")} | dict.fromkeys(
        ["ranks"] * (folder / "found.npz").exists(), "equal"
    )


ENDED = "UserError: process 1: another process has ended; what it printed says why"


def test_processes_wait_for_process_0_for_longer_than_pytorch_would(tmp_path):
    assert uneven(tmp_path, "pause") == {"ranks": "equal"}


def test_where_process_0_fails_in_the_middle_of_counting_each_ends_with_one_error_at_once(tmp_path):
    assert uneven(tmp_path, "lingers", 0) == {"0": "OutOfMemoryError: CUDA out of memory", "1": ENDED}


def test_where_another_fails_in_the_middle_of_counting_process_0_says_which_and_why(tmp_path):
    told = "Elsewhere: process 1: OutOfMemoryError: CUDA out of memory"
    assert uneven(tmp_path, "lingers", 1) == {"0": told, "1": ENDED}


def test_where_another_fails_in_encoding_process_0_says_which_and_why(tmp_path):
    assert uneven(tmp_path, "encoding", 1) == {"0": "Elsewhere: process 1: ValueError: a bad text", "1": ENDED}


@pytest.mark.parametrize("failing", [0, 1])
def test_after_a_failure_process_0_can_go_on(tmp_path, failing):
    found = uneven(tmp_path, "goes on", failing)
    assert found.keys() == {"told", "ranks"} and found["told"].endswith("CUDA out of memory")


MEMORY = """
import re, sys
from pathlib import Path
import numpy as np
import torch
from clipbias.models.wrapped import WrappedEncoder
from clipbias.probe.blocks import Layout
from clipbias.probe.counting import Work
from clipbias.probe.distributed import count_together, process_group, serve, shared


class Mine:
    def encode_texts(self, texts): return torch.ones(len(texts), 2)
    encode_images = encode_texts


def mib(what):
    return int(re.search(what + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def once(count):
    every = np.arange(count)
    return Layout(every, every, every)


with process_group() as number:
    encoder = WrappedEncoder(Mine(), "mine", torch.device("cpu"), "fp32")
    if number:
        before = mib("VmRSS")
        serve(encoder, None)
        print("worker", mib("VmHWM") - before)
    else:
        with shared(encoder) as working:
            images = torch.randn(60_000, 1024)
            work = Work(once(256), once(60_000), np.arange(256), 256, 1024, 256)
            before = mib("VmRSS")
            count_together(work, images[:256].clone(), images, torch.device("cpu"))
            print("first", mib("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read where Linux shows it")
def test_images_are_sent_from_where_they_lie_to_where_they_are_counted(tmp_path):
    (tmp_path / "memory.py").write_text(MEMORY)
    code, out, errors = launch(tmp_path, 2, script, tmp_path / "memory.py")
    assert code == 0, errors[-3000:]
    grown = {line.split()[0]: float(line.split()[1]) for line in out.splitlines()}
    share = 60_000 // 2 * 1024 * 4 / 2**20
    assert grown["first"] < 0.5 * share and share * 0.9 < grown["worker"] < 1.5 * share, (share, grown)


ONE_CANNOT = """
import os, sys
sys.path.insert(0, sys.argv[1])
from processes import command_line
import clipbias.probe.sweep as sweep
from clipbias.errors import UserError

own = sweep.open_encoder


def opened(asked, trust):
    if asked.model == "nano-clip" and os.environ["RANK"] == "1":
        raise UserError("no room for it here")
    return own(asked, trust)


sweep.open_encoder = opened
command_line(*sys.argv[2:])
"""


def test_a_model_that_one_process_cannot_load_is_left_out_by_all(data, tmp_path):
    (tmp_path / "one.py").write_text(ONE_CANNOT)
    (tmp_path / "models.txt").write_text("nano-clip\nnano-debias\n")
    command = ("probe", "drop-first", "--models", tmp_path / "models.txt", "--data", data, "--out", tmp_path / "out")
    code, _, errors = launch(
        tmp_path, 2, script, tmp_path / "one.py", Path(__file__).parents[1], *command, "--device", "cpu"
    )
    assert "process 1: no room for it here" in errors and "Traceback" not in errors
    assert code != 0 and [one.run.model for one in load_runs([tmp_path / "out"])] == ["nano-debias"]
