"""One writer a folder, leftovers removed, output that cannot be written, damaged files of a training."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import MagicMock

import pytest
import torch
from tests_support import SVG, write_models

from clipbias.errors import CheckFailed, UserError
from clipbias.files import atomic_path, folder_lock
from clipbias.finetune import ask
from clipbias.finetune.export import write_layout
from clipbias.finetune.folder import last_metrics, training_lock
from clipbias.finetune.loop import TrainingState
from clipbias.models.loading import load_model
from clipbias.report import build
from clipbias.report.build import build_report


@pytest.fixture
def dead(tmp_path):
    """The number of a process that has ended."""
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    return int(done.stdout)


def leftover(folder: Path, name: str, process: int) -> Path:
    """A temporary file as a process leaves it that is killed while it writes ``name``."""
    with atomic_path(folder / name) as path:
        kept = path.name.replace(f"-{os.getpid()}-", f"-{process}-")
    assert kept != path.name
    (folder / name).unlink()
    (folder / kept).write_bytes(b"half")
    return folder / kept


def test_the_next_writer_of_a_folder_removes_what_dead_processes_left(tmp_path, dead):
    left, alive = leftover(tmp_path, "state.pt", dead), leftover(tmp_path, "model.pt", os.getppid())
    other = tmp_path / ".notes.tmp"
    other.write_text("mine")
    with folder_lock(tmp_path):
        assert not left.exists() and alive.exists() and other.exists()
    left = leftover(tmp_path, "state.pt", dead)
    with atomic_path(tmp_path / "another") as path:
        assert not left.exists() and alive.exists() and other.exists() and path.exists()


@pytest.mark.parametrize("what", ["training", "export", "report"])
def test_a_second_writer_is_told_and_writes_nothing(tmp_path, monkeypatch, what):
    monkeypatch.setattr(build, "_PATIENCE", 0.1)
    write_models(tmp_path / "results", "m")
    out = tmp_path / "out"
    with folder_lock(out):
        before = sorted(out.rglob("*"))
        with pytest.raises(UserError, match="another process is writing there"):
            if what == "training":
                for name in ("load_model", "trainable", "asked_recipe", "load_dataset", "with_kept_images"):
                    monkeypatch.setattr(ask, name, MagicMock())
                monkeypatch.setattr(ask, "scenes_held_out", MagicMock())
                ask.run_training(ask.Training("debias", out=out))
            elif what == "export":
                write_layout(load_model("nano-clip", device="cpu"), "openclip", out)
            else:
                build_report([tmp_path / "results"], out)
        assert sorted(out.rglob("*")) == before


def test_only_the_first_of_several_processes_locks_a_training(tmp_path, monkeypatch):
    with training_lock(tmp_path):
        monkeypatch.setenv("RANK", "1")
        with training_lock(tmp_path):
            pass


def test_a_damaged_ablation_is_named_and_the_report_is_there(tmp_path):
    write_models(tmp_path / "results", "m")
    (tmp_path / "results" / "ablation-x.csv").write_text("recipe,measure,mean,values\na,R@1,one,1 2\n")
    with pytest.raises(CheckFailed, match=r"1 damaged files are left out of it:\n.*ablation-x\.csv"):
        build_report([tmp_path / "results"], tmp_path / "out", look=SVG)
    assert (tmp_path / "out" / "index.html").stat().st_size > 1000


@pytest.mark.parametrize("line", ["", "[1]", '{"loss": "x"}', "{", '{"loss": true}', "null"])
def test_damaged_metrics_of_a_training_are_one_line(tmp_path, line):
    (tmp_path / "metrics.jsonl").write_text('{"step": 0, "loss": 1.5}\n' + line + "\n")
    with pytest.raises(UserError, match=r"metrics\.jsonl"):
        last_metrics(tmp_path)
    (tmp_path / "metrics.jsonl").write_text('{"step": 0, "loss": 1.5}\n')
    assert last_metrics(tmp_path) == {"step": 0, "loss": 1.5}


COMMAND = [sys.executable, "-m", "clipbias"]


def run(arguments, **to):
    """The exit code and stderr of a command."""
    done = subprocess.run([*COMMAND, *arguments], stderr=subprocess.PIPE, text=True, timeout=120, **to)
    return done.returncode, done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("arguments", [("models",), ("models", "--json"), ("--help",), ("published", "--csv")])
def test_output_on_a_full_device_is_one_line_and_code_2(arguments):
    with open("/dev/full", "w") as full:
        code, said = run(arguments, stdout=full)
    assert code == 2 and said.count("\n") == 1 and "cannot be written (No space left on device)" in said


def test_a_closed_pipe_ends_quietly():
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        assert run(("published", "--csv"), stdout=pipe) == (0, "")


@pytest.mark.parametrize(
    "arguments",
    [
        ("probe", "full", "--seed", "-1"),
        ("probe", "full", "--device", "meta"),
        ("finetune", "debias", "--seed", "-1"),
        ("finetune", "debias", "--set", "seed=-1"),
        ("finetune", "debias", "--out", "x" * 300),
        ("report", "--out", "x" * 300),
        ("report", "--out", "a\x00b"),
        ("models", "check", "x" * 300),
        ("probe", "full", "--model", "x" * 300),
        ("probe", "full", "--model", "nano-clip", "--limit", "2", "--out", "x" * 300),
    ],
)
def test_options_out_of_range_are_refused(arguments, monkeypatch, capsys, tmp_path, few_scenes):
    import clipbias.cli.app

    monkeypatch.chdir(tmp_path)
    write_models(tmp_path / "results", "m")
    monkeypatch.setattr(clipbias.cli.app, "_answer_signals", lambda: None)
    monkeypatch.setattr(sys, "argv", ["clipbias", *arguments])
    with pytest.raises(SystemExit) as stop:
        clipbias.cli.app.main()
    said = capsys.readouterr().err
    assert stop.value.code == 2 and "unexpected" not in said, said


def test_a_state_that_is_no_state_is_refused(tmp_path):
    net = torch.nn.Linear(2, 2)
    path = tmp_path / "state.pt"

    def state():
        return TrainingState(net, torch.optim.AdamW(net.parameters()), torch.amp.GradScaler(enabled=False), net)

    state().save(path)
    state().load(path)
    raw = path.read_bytes()
    for damaged in (b"", b"x" * 1000, raw[:500], raw[: len(raw) // 2] + b"\0" * 99):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"state\.pt"):
            state().load(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UserError, match="a pipe"):
        state().load(path)
