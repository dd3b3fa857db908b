"""The command line as a user meets it: exit codes, one-line errors, cheap start."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from tests_support import run_here
from typer.testing import CliRunner

from clipbias.cli.app import app

ROOT = Path(__file__).parents[2]


def clipbias(*arguments: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("CLIPBIAS_", "HF_"))}
    environment |= {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "HF_HOME": str(cwd / "hf"), **variables}
    program = "from clipbias.cli.app import main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_a_model_whose_weights_are_not_here_is_answered_with_where_to_get_them(tmp_path):
    run = clipbias("probe", "padding", "--model", "longclip-b16", cwd=tmp_path)
    assert run.returncode == 2
    message = run.stderr.strip()
    assert "\n" not in message and "Traceback" not in message
    for part in ("longclip-B.pt", "BeichenZhang/LongCLIP-B", "--weights", "CLIPBIAS_WEIGHTS"):
        assert part in message
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("probe", "padding", "--model", "nano-clib"), "did you mean nano-clip"),
        (("probe", "paddin", "--model", "nano-clip"), "padding"),
        (("probe", "padding", "--model", "nano-clip", "--data", "scene"), "did you mean scenes"),
        (("probe", "padding", "--model", "nano-clip", "--precision", "fp8"), "fp8"),
        (("probe",), "name a probe"),
        (("data", "show", "scenes", "1000"), "0 to 999"),
        (("report", "--results", "nowhere"), "no such results folder"),
        (("finetune", "debias", "--set", "lr"), "--set name=value"),
        (("data", "check", "scenes", "--option", "split=test"), "split is no such setting"),
        (("probe", "padding", "--model", "nano-clip", "--model-option", "device=cuda"), "device is no such setting"),
        (("finetune", "debias", "--set", "speed=1"), "speed"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(tmp_path, arguments, message):
    run = run_here(*arguments, cwd=tmp_path)
    assert run.returncode == 2, run.stderr
    assert message in run.stderr
    assert "Traceback" not in run.stderr and run.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_the_traceback(tmp_path):
    run = clipbias("--debug", "report", "--results", "nowhere", cwd=tmp_path)
    assert "Traceback" in run.stderr


def test_help_and_import_need_no_heavy_library(tmp_path):
    heavy = "{'torch', 'open_clip', 'pandas', 'numpy', 'matplotlib', 'seaborn', 'PIL', 'pyarrow', 'scipy'}"
    program = f"import sys, clipbias, clipbias.cli.app; print({heavy} & set(sys.modules))"
    run = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert run.stdout.strip() == "set()", run.stdout + run.stderr
    shown = clipbias("--help", cwd=tmp_path)
    assert shown.returncode == 0
    for command in ("models", "data", "probe", "finetune", "report", "compare", "demo"):
        assert command in shown.stdout


def test_data_show_writes_the_picture_and_the_caption(tmp_path):
    from PIL import Image

    from clipbias.scenes import long_caption, render, sample_scene

    run = run_here("data", "show", "scenes", "7", "--out", "seen", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    scene = sample_scene("test", 7)
    sentences = [sentence.text for sentence in long_caption(scene)]
    assert (tmp_path / "seen/scenes_test_7.txt").read_text() == " ".join(sentences) + "\n"
    assert Image.open(tmp_path / "seen/scenes_test_7.png").tobytes() == render(scene).tobytes()
    assert all(sentence in run.stdout for sentence in sentences)


def test_probe_report_and_compare_in_one_go(tmp_path, few_scenes):
    for model in ("nano-longclip", "nano-debias"):
        run = run_here("probe", "drop-first", "--model", model, cwd=tmp_path, COLUMNS="100")
        assert run.returncode == 0, run.stderr
        assert "no --data given" in run.stdout
    folders = [
        next((tmp_path / "results").glob(f"{model}@*/scenes-2@*/drop-first"))
        for model in ("nano-longclip", "nano-debias")
    ]
    stamps = [(folder / "run.json").stat().st_mtime_ns for folder in folders]
    again = run_here("probe", "drop-first", "--model", "nano-debias", cwd=tmp_path)
    assert again.returncode == 0 and (folders[1] / "run.json").stat().st_mtime_ns == stamps[1]
    compared = run_here("compare", *map(str, folders), cwd=tmp_path)
    assert compared.returncode == 0 and "B - A" in compared.stdout
    reported = run_here("report", "--out", "figures", cwd=tmp_path)
    assert reported.returncode == 0, reported.stderr
    for name in (
        "scenes-2-drops.png",
        "scenes-2-drops.svg",
        "scenes-2-drops.pdf",
        "scenes-2-drops.csv",
        "leaderboard.md",
        "index.html",
    ):
        assert (tmp_path / "figures" / name).stat().st_size > 100
    first = {p.name: p.read_bytes() for p in (tmp_path / "figures").iterdir()}
    assert run_here("report", "--out", "figures", cwd=tmp_path).returncode == 0
    second = {p.name: p.read_bytes() for p in (tmp_path / "figures").iterdir()}
    assert first == second


def test_what_programs_read_is_json_on_stdout_alone(tmp_path, few_scenes):
    asked = [
        ("models",), ("models", "nano-clip"), ("data", "list"), ("cache", "info"),
        ("probe", "drop-first", "--model", "nano-debias", "--model", "nano-longclip"),
        ("card",), ("compare", "nano-debias", "nano-longclip", "--queries", "3"),
    ]  # fmt: skip
    for arguments in asked:
        run = run_here(*arguments, "--json", cwd=tmp_path, CLIPBIAS_CACHE=str(tmp_path / "cache"))
        assert run.returncode == 0 and json.loads(run.stdout), (arguments, run.stderr)
    run = run_here("compare", "nano-debias", "nano-longclip", "--queries", "3", "--json", cwd=tmp_path)
    (pair,) = json.loads(run.stdout)
    assert len(pair["changed"]) == 3 and {d["condition"] for d in pair["differences"]} == {"full", "drop-first"}
    (tmp_path / "data").mkdir()
    Image.effect_noise((64, 64), 90).save(tmp_path / "data" / "a.png")
    (tmp_path / "data" / "a.txt").write_text("Two words.")
    whole = (tmp_path / "data" / "a.png").read_bytes()
    for content, code in ((whole, 0), (whole[:1000], 1)):
        (tmp_path / "data" / "a.png").write_bytes(content)
        run = run_here("data", "check", "data", "--json", cwd=tmp_path)
        findings = json.loads(run.stdout)["findings"]
        assert run.returncode == code == int(not all(one["fine"] for one in findings)), run.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("data", "list"), ("urban1k", "CC BY", "made by clipbias")),
        (("data", "sentences", "scenes"), ("sentences a caption", "captions beyond 77 tokens")),
        (("data", "get", "coco", "--list"), ("http", "zip")),
        (("models",), ("nano-debias", "longclip-b16", "openclip:NAME/TAG")),
        (("models", "nano-debias"), ("context length", "248", "drop_summary = true")),
        (("leaderboard",), ("nano-longclip", "99.7", "published")),
        (("probe", "--list"), ("padding", "swap-1-4")),
        (("finetune", "debias", "--help"), ("--resume", "--base")),
    ],
)
def test_commands_that_only_tell(arguments, words, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    told = CliRunner().invoke(app, arguments)
    assert told.exit_code == 0, told.output
    assert all(word in told.output for word in words), told.output


def test_nothing_is_coloured_or_drawn_where_nobody_looks_or_wants_it(tmp_path, few_scenes):
    for arguments, variables in (
        (("probe", "drop-first", "--model", "nano-debias"), {}),
        (("--quiet", "models"), {}),
        (("models",), {"NO_COLOR": "1", "FORCE_COLOR": ""}),
        (("probe", "nothing", "--model", "nano-clip"), {}),
        (("prob",), {"NO_COLOR": "1"}),
    ):
        start = clipbias if arguments == ("models",) else run_here
        run = start(*arguments, cwd=tmp_path, **variables)
        assert "\x1b" not in run.stdout + run.stderr, arguments
        assert run.returncode == 0 or not run.stdout


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a terminal")
def test_no_color_is_heeded_in_a_terminal(tmp_path):
    def shown(**variables: str) -> str:
        master, slave = os.openpty()
        environment = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
        environment |= {"PYTHONPATH": str(ROOT), "TERM": "xterm-256color", **variables}
        process = subprocess.Popen(
            [sys.executable, "-m", "clipbias", "models"], cwd=tmp_path, env=environment, stdout=slave, stderr=slave
        )
        os.close(slave)
        out = b""
        while True:
            try:
                part = os.read(master, 65_536)
            except OSError:  # closed at the other end
                break
            if not part:
                break
            out += part
        assert process.wait(timeout=60) == 0
        os.close(master)
        return out.decode()

    coloured = re.compile(r"\x1b\[[0-9;]*(3[0-7]|9[0-7]|38;[0-9;]+)m")
    assert "nano-debias" in shown() and not coloured.search(shown(NO_COLOR="1"))


def test_the_shell_can_complete_commands(tmp_path):
    script = clipbias(cwd=tmp_path, _CLIPBIAS_COMPLETE="source_bash")
    assert "complete -o default -F _clipbias_completion clipbias" in script.stdout
    asked = {"_CLIPBIAS_COMPLETE": "complete_bash", "COMP_WORDS": "clipbias fine", "COMP_CWORD": "1"}
    assert clipbias(cwd=tmp_path, **asked).stdout.split() == ["finetune"]


def test_options_come_from_a_file_or_the_environment_too(tmp_path):
    (tmp_path / "c.toml").write_text("[cache.info]\njson = true\n[leaderboard]\nresults = ['nowhere']\n")
    environment = {"CLIPBIAS_CACHE": str(tmp_path / "cache")}
    assert run_here("--config", "c.toml", "cache", "info", cwd=tmp_path, **environment).stdout.startswith("{")
    assert run_here("cache", "info", cwd=tmp_path, CLIPBIAS_CACHE_INFO_JSON="1", **environment).stdout.startswith("{")
    run = run_here("--config", "c.toml", "leaderboard", cwd=tmp_path)
    assert run.returncode == 2 and "nowhere: no such results folder" in run.stderr
    # What is written on the command line comes first.
    assert "elsewhere" in run_here("--config", "c.toml", "leaderboard", "--results", "elsewhere", cwd=tmp_path).stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[prob]\nout = 'x'", "the file has 'prob'"),
        ("[probe]\nouts = 'x'", r"\[probe\] has 'outs'; known are"),
        ("probe = 3", r"\[probe\] must be a table"),
        ("debug = true", "the file has 'debug'"),
        ("[", "not a readable configuration"),
    ],
)
def test_a_wrong_configuration_is_one_line(tmp_path, content, message):
    (tmp_path / "c.toml").write_text(content)
    run = run_here("--config", "c.toml", "models", cwd=tmp_path)
    assert run.returncode == 2 and re.search(message, run.stderr) and run.stderr.count("\n") == 1
