"""The reference of commands and the page of variables say what the code has."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from clipbias.cli.app import app

ROOT = Path(__file__).parents[2]
VARIABLE = re.compile(
    r"[\"'`]((?:CLIPBIAS|HF|XDG|MLFLOW|WANDB)_[A-Z_]*[A-Z]|RANK|LOCAL_RANK|WORLD_SIZE|CUBLAS_\w+)[\"'`]"
)


@pytest.fixture(scope="module")
def sections():
    pytest.importorskip("sphinx", reason="the site is built with the extra docs")
    spec = importlib.util.spec_from_file_location("clipbias_commands", ROOT / "docs" / "clipbias_commands.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    parts = re.split(r"^## ", module.markdown(), flags=re.MULTILINE)[1:]
    return {part.partition("\n")[0]: part for part in parts}


def helped(*words):
    return CliRunner().invoke(app, [*words, "--help"], catch_exceptions=False).stdout


def test_every_command_is_there_with_every_option_that_its_help_has(sections):
    """Walked by the commands' own help, not by the objects that the page is made of."""
    seen, waiting = set(), [()]
    while waiting:
        words = waiting.pop()
        seen.add(" ".join(["clipbias", *words]))
        text = helped(*words)
        mine = sections[" ".join(["clipbias", *words])]
        options = set(re.findall(r"^\s+(?:-\w, )?(--[a-z][\w-]*)", text, re.MULTILINE)) - {
            "--help", "--install-completion", "--show-completion",
        }  # fmt: skip
        assert all(f"`{option}`" in mine for option in options), (words, options)
        below = re.findall(r"^  ([a-z][\w-]*) ", text.partition("Commands:\n")[2], re.MULTILINE)
        waiting += [(*words, name) for name in below]
    assert seen == set(sections) and len(seen) > 30


def test_the_page_of_variables_has_all_that_the_code_reads():
    page = (ROOT / "docs" / "variables.md").read_text("utf-8")
    listed = set(re.findall(r"`([A-Z_]+)`", page))
    read = {
        name
        for path in (ROOT / "clipbias").rglob("*.py")
        for name in VARIABLE.findall(path.read_text("utf-8"))
        if not name.startswith("CLIPBIAS_LIMIT")
    }
    assert {"CLIPBIAS_CACHE", "CLIPBIAS_DATA", "HF_HUB_OFFLINE", "RANK"} <= read
    assert read - listed == set()
    known = read | {"CLIPBIAS_LIMIT_KIND", "CLIPBIAS_LIMIT_KIND_BYTES", "CLIPBIAS_LIMIT_CAPTIONS"}
    assert {name for name in listed if name.startswith("CLIPBIAS_")} - known == {
        "CLIPBIAS_COMMAND_OPTION", "CLIPBIAS_DATA_GET_ROOT", "CLIPBIAS_PROBE_OUT",
    } - known  # fmt: skip


def test_an_options_variable_is_named_as_the_page_says(tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPBIAS_RESULTS_LIST_JSON", "1")
    told = CliRunner().invoke(app, ["results", "list", str(tmp_path)], catch_exceptions=False)
    assert told.exit_code == 0 and told.stdout.strip() == "[]"
