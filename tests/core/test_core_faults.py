"""Things that really break: full disks, kills at random moments, two processes at once, no right to write."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import time
from pathlib import Path

import processes
import pytest
import torch
from tests_support import THOROUGH

import clipbias
from clipbias.data.loading import load_dataset
from clipbias.errors import UserError
from clipbias.probe.run import run_probe
from clipbias.probe.session import Session
from clipbias.probe.spec import find_probes
from clipbias.probe.store import EmbeddingStore, read_shard, shard_paths
from clipbias.results.folder import Finished, find_runs, load_runs
from clipbias.scenes import long_caption, render, sample_scene


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for i in range(24):
        render(sample_scene("test", i)).save(folder / f"{i:02}.png")
        (folder / f"{i:02}.txt").write_text(" ".join(s.text for s in long_caption(sample_scene("test", i))))
    return folder


def start(
    *arguments: object, cache: Path, largest_file: int = 0, fault: Path | None = None, **environment: str
) -> processes.Started:
    """The command line in a process of its own.

    Args:
        arguments: of the command.
        cache: the cache's folder.
        largest_file: bytes that a file may take; 0 for any number.
        fault: a program that runs first.
        environment: more variables.
    """
    whole = {**os.environ, "CLIPBIAS_CACHE": str(cache), **environment}
    printed = cache.parent / "printed"
    return processes.start(
        printed, processes.command_line, *arguments, environment=whole, largest_file=largest_file, first=fault
    )


def finish(process: processes.Started) -> tuple[int, str]:
    code, _, errors = process.finish()
    return code, errors


def probe(data: Path, out: Path) -> tuple[object, ...]:
    return ("probe", "paper", "--model", "nano-debias", "--data", data, "--out", out, "--device", "cpu")


@pytest.fixture(scope="module")
def undisturbed(data, tmp_path_factory) -> list[Finished]:
    out = tmp_path_factory.mktemp("undisturbed")
    code, errors = finish(start(*probe(data, out / "results"), cache=out / "cache"))
    assert code == 0, errors
    return load_runs([out / "results"])


def same(results: Path, wanted: list[Finished]) -> None:
    found = load_runs([results])
    assert [one.run.probe for one in found] == [one.run.probe for one in wanted]
    for mine, theirs in zip(found, wanted, strict=True):
        assert mine.queries.equals(theirs.queries) and mine.rows == theirs.rows
    assert not [p for p in results.rglob("*") if p.name.endswith(".part")]


def test_a_full_disk_is_one_line_and_the_next_run_is_whole(data, undisturbed, tmp_path):
    code, errors = finish(start(*probe(data, tmp_path / "results"), cache=tmp_path / "cache", largest_file=6_000))
    assert code == 2 and "Traceback" not in errors
    # The cache that could not be written stopped nothing; the results that could not be written did.
    assert "features are not kept" in errors and "cannot write" in errors
    assert not list((tmp_path / "results").rglob("run.json"))
    assert not [p for p in tmp_path.rglob("*") if p.name.endswith(".part")]
    code, errors = finish(start(*probe(data, tmp_path / "results"), cache=tmp_path / "cache"))
    assert code == 0, errors
    same(tmp_path / "results", undisturbed)


def test_killed_at_random_moments_nothing_is_corrupt_and_the_end_is_the_same(data, undisturbed, tmp_path):
    chance = random.Random(1)
    began = time.monotonic()
    assert finish(start(*probe(data, tmp_path / "timing"), cache=tmp_path / "other"))[0] == 0
    whole = time.monotonic() - began
    for _ in range(12 if THOROUGH else 4):
        process = start(*probe(data, tmp_path / "results"), cache=tmp_path / "cache")
        time.sleep(whole * chance.uniform(0.0, 1.0))
        process.send_signal(signal.SIGKILL)
        finish(process)
        for path in shard_paths(tmp_path / "cache" / "embeddings"):
            read_shard(path)
        if (tmp_path / "results").exists():
            for one in load_runs([tmp_path / "results"]):
                assert len(one.rows) and len(one.queries)
    code, errors = finish(start(*probe(data, tmp_path / "results"), cache=tmp_path / "cache"))
    assert code == 0, errors
    same(tmp_path / "results", undisturbed)
    assert not [path for path in tmp_path.rglob("*") if ".tmp-" in path.name]  # of kills in the middle of a write


def test_two_processes_share_a_cache_and_a_results_folder(data, undisturbed, tmp_path):
    both = [start(*probe(data, tmp_path / "results"), cache=tmp_path / "cache") for _ in range(2)]
    for process in both:
        code, errors = finish(process)
        assert code == 0, errors
    same(tmp_path / "results", undisturbed)
    for path in shard_paths(tmp_path / "cache" / "embeddings"):
        read_shard(path)


def test_an_interrupt_is_said_and_has_its_exit_code(data, tmp_path):
    process = start(*probe(data, tmp_path / "results"), cache=tmp_path / "cache")
    process.wait_for("data:")
    process.send_signal(signal.SIGINT)
    code, errors = finish(process)
    assert code == 130 and errors.strip().splitlines()[-1] == "interrupted; what was finished is kept"
    assert "Traceback" not in errors


CLOCK = """
import random, time
real = time.time
time.time = lambda: real() + random.choice((-1e9, 1e9))
"""


def test_a_clock_that_jumps_changes_nothing(data, undisturbed, tmp_path):
    (tmp_path / "fault.py").write_text(CLOCK)
    chance = random.Random(3)
    for again in range(2):
        # A limit that the features of one run do not fit: what is removed goes by the files' times.
        run = probe(data, tmp_path / f"results-{again}")
        process = start(*run, cache=tmp_path / "cache", fault=tmp_path / "fault.py", CLIPBIAS_CACHE_GB="0.0001")
        code, errors = finish(process)
        assert code == 0, errors
        same(tmp_path / f"results-{again}", undisturbed)
        for path in shard_paths(tmp_path / "cache" / "embeddings"):
            moved = time.time() + chance.choice((-1e9, 1e9))
            os.utime(path, (moved, moved))


MEMORY = """
import itertools, threading
from PIL import Image
count, convert = itertools.count(), Image.Image.convert
def short(self, *arguments, **options):
    if threading.current_thread() is not threading.main_thread() and next(count) == {at}:
        raise MemoryError
    return convert(self, *arguments, **options)
Image.Image.convert = short
"""


@pytest.mark.parametrize("at", [3, 40])
def test_a_worker_without_memory_is_one_line_and_the_next_run_is_whole(data, undisturbed, tmp_path, at):
    (tmp_path / "fault.py").write_text(MEMORY.format(at=at))
    code, errors = finish(
        start(*probe(data, tmp_path / "results"), cache=tmp_path / "cache", fault=tmp_path / "fault.py")
    )
    assert code == 2 and "not enough memory" in errors.strip().splitlines()[-1] and "Traceback" not in errors
    code, errors = finish(start(*probe(data, tmp_path / "results"), cache=tmp_path / "cache"))
    assert code == 0, errors
    same(tmp_path / "results", undisturbed)


def test_files_that_vanish_between_listing_and_reading(data, undisturbed, tmp_path, monkeypatch):
    folder = tmp_path / "data"
    shutil.copytree(data, folder)
    dataset = load_dataset(str(folder))
    (folder / "05.png").unlink()
    encoder = clipbias.load_model("nano-debias", device="cpu")
    (padding,) = find_probes("padding")
    with pytest.raises(UserError, match=r"05\.png"):
        run_probe(Session(encoder, dataset), padding, tmp_path / "results")
    assert not list((tmp_path / "results").rglob("run.json"))

    # A run that another process makes anew has no run.json for a while.
    results = tmp_path / "others"
    shutil.copytree(undisturbed[0].folder.parents[2], results)
    listed = find_runs([results])
    monkeypatch.setattr("clipbias.results.folder.find_runs", lambda paths: listed)
    (listed[0] / "run.json").unlink()
    assert [one.folder for one in load_runs([results])] == listed[1:]
    (listed[1] / "rows.jsonl").unlink()
    with pytest.raises(UserError, match=r"rows\.jsonl: missing"):
        _ = load_runs([results])[0].rows

    # A shard that another process has trimmed.
    dataset = load_dataset(str(data))
    whole = Session(encoder, dataset, store=EmbeddingStore(tmp_path / "store", 10**9)).images()
    gone = list(shard_paths(tmp_path / "store"))
    for path in gone:
        path.unlink()
    monkeypatch.setattr(Path, "glob", lambda self, pattern: iter(gone))
    assert torch.equal(Session(encoder, dataset, store=EmbeddingStore(tmp_path / "store", 10**9)).images(), whole)


def test_a_training_on_a_full_disk_keeps_its_last_state(data, tmp_path):
    def train(folder: Path, largest_file: int = 0) -> tuple[int, str]:
        settings = {"batch_size": 8, "steps": 4, "warmup": 1, "pca_dim": 3, "precision": "fp32", "validation": 0}
        arguments = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
        command = ("finetune", "debias", "--data", data, "--no-evaluate", "--resume", "--out", folder, *arguments)
        return finish(start(*command, cache=tmp_path / "cache", largest_file=largest_file))

    assert train(tmp_path / "whole")[0] == 0
    code, errors = train(tmp_path / "cut", largest_file=100_000)
    assert code == 2 and "Traceback" not in errors
    assert re.fullmatch(
        r"clipbias: cannot write \S+/cut/state\.pt: File too large \(it takes [\d.]+ MB, a file may take 0\.1 MB, "
        "see ulimit -f\\); raise the limit or choose another folder",
        errors.strip().splitlines()[-1],
    ), errors
    assert not list((tmp_path / "cut").glob("*.p*t"))
    assert train(tmp_path / "cut")[0] == 0
    one, two = (clipbias.load_model(str(tmp_path / name / "model.pt")) for name in ("whole", "cut"))
    assert one.fingerprint == two.fingerprint
    # The same with a state that was there: it stays as it was.
    before = (tmp_path / "cut" / "state.pt").read_bytes()
    code, errors = train(tmp_path / "cut", largest_file=100_000)
    assert code == 2 and (tmp_path / "cut" / "state.pt").read_bytes() == before


def test_an_error_that_nobody_expected_is_one_line_too(data, tmp_path):
    (tmp_path / "fault.py").write_text(f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\n")
    (tmp_path / "mine.py").write_text("def load():\n    raise ZeroDivisionError('on \x1b[31mpurpose')\n")
    for debug in ((), ("--debug",)):
        command = (*debug, "probe", "padding", "--model", "mine:load", "--data", data)
        code, errors = finish(start(*command, cache=tmp_path / "cache", fault=tmp_path / "fault.py"))
        if debug:
            assert code == 1 and "Traceback" in errors
        else:
            assert code == 2 and len(errors.strip().splitlines()) == 1 and "\x1b" not in errors
            assert errors.startswith("clipbias: unexpected ZeroDivisionError: on")


def test_a_killed_report_leaves_whole_files_and_the_next_one_is_the_same(undisturbed, tmp_path):
    kinds = () if THOROUGH else ("--format", "png")  # PDF files are written in the same way, and take the longest
    report = ("report", "--results", undisturbed[0].folder.parents[2], "--examples", "0", *kinds)
    began = time.monotonic()
    assert finish(start(*report, "--out", tmp_path / "whole", cache=tmp_path))[0] == 0
    whole = time.monotonic() - began
    chance = random.Random(2)
    for _ in range(6 if THOROUGH else 2):
        process = start(*report, "--out", tmp_path / "cut", cache=tmp_path)
        time.sleep(whole * chance.uniform(0.0, 1.0))
        process.send_signal(signal.SIGKILL)
        finish(process)
        for path in (tmp_path / "cut").glob("*") if (tmp_path / "cut").exists() else ():
            if not path.name.startswith("."):
                assert path.read_bytes() == (tmp_path / "whole" / path.name).read_bytes()
    assert finish(start(*report, "--out", tmp_path / "cut", cache=tmp_path))[0] == 0
    assert sorted(os.listdir(tmp_path / "cut")) == sorted(os.listdir(tmp_path / "whole"))
    for path in (tmp_path / "whole").iterdir():
        assert path.read_bytes() == (tmp_path / "cut" / path.name).read_bytes()


@pytest.mark.parametrize("command", ["report", "probe"])
def test_a_folder_that_cannot_be_written_is_one_line(data, undisturbed, tmp_path, command):
    (tmp_path / "file").write_text("in the way")
    out = tmp_path / "file" / "below"
    results = undisturbed[0].folder.parents[2]
    arguments = probe(data, out) if command == "probe" else ("report", "--results", results, "--out", out)
    code, errors = finish(start(*arguments, cache=tmp_path / "cache"))
    assert code == 2 and errors.strip().splitlines()[-1].startswith("clipbias: cannot write")


def test_escapes_in_captions_and_names_do_not_reach_the_terminal(data, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a.png").write_bytes((data / "00.png").read_bytes())
    (folder / "a.txt").write_text("First \x1b[31mred.\x1b]0;title\x07 Second \u202eevil.")
    for arguments in (
        ("data", "show", folder, "0", "--out", tmp_path / "seen"),
        ("data", "check", folder),
        ("probe", "padding", "--model", "\x1b[2Jnano"),
        ("probe", "\x1b[2Jpadding", "--model", "nano-clip"),
    ):
        process = start(*arguments, cache=tmp_path / "cache")
        _, out, errors = process.finish()
        assert not {"\x1b", "\x07", "\u202e"} & set(out + errors), arguments
