"""The command line trusts no file: configurations name no code, signals are answered, empty names are no defaults."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from clipbias.cli.app import app
from clipbias.errors import UserError
from clipbias.finetune.recipe import read_recipe
from clipbias.finetune.recipes import DEBIAS


@pytest.mark.parametrize("value", ['["evil:load"]', '["nano-clip", "evil.sub:load"]'])
def test_a_configuration_cannot_name_code(tmp_path, monkeypatch, value):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "evil.py").write_text("import pathlib\npathlib.Path('ran').touch()\n")
    (tmp_path / "c.toml").write_text(f"[probe]\nmodel = {value}\n")
    run = CliRunner().invoke(app, ["--config", "c.toml", "probe", "padding", "--out", "out"])
    assert isinstance(run.exception, UserError) and "would run code" in str(run.exception)
    assert not (tmp_path / "ran").exists()


def test_an_empty_name_of_data_is_no_default():
    run = CliRunner().invoke(app, ["probe", "padding", "--model", "nano-clip", "--data", ""])
    assert isinstance(run.exception, UserError) and "an empty name" in str(run.exception)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signals_end_with_a_line_and_leave_no_temporary_file(tmp_path, number, code):
    script = (
        "import signal, sys, time, pathlib\n"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"  # under nohup it is ignored, and stays so
        "from clipbias.cli import app as cli\n"
        "from clipbias.files import atomic_path\n"
        "def work(**_):\n"
        f"    with atomic_path(pathlib.Path({str(tmp_path / 'x')!r})):\n"
        "        print('ready', flush=True)\n"
        "        time.sleep(60)\n"
        "cli.app = work\n"
        "cli.main()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    time.sleep(0.1)
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert process.returncode == code and said.splitlines() == [f"ended by {number.name}; what was finished is kept"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", "é", "\U0001f600", "\x7f\x9b\x1b\t\r", "\u2028"])
def test_a_recipe_with_odd_texts_comes_back(tmp_path, name):
    from dataclasses import replace

    recipe = replace(DEBIAS, name=name)
    (tmp_path / "recipe.toml").write_text(recipe.to_toml(), encoding="utf-8")
    assert read_recipe(tmp_path / "recipe.toml", DEBIAS) == recipe
    with pytest.raises(UserError, match="not valid Unicode"):
        replace(DEBIAS, name=name + "\udcff")
