"""What programs read: every command that prints a table prints it as JSON and as CSV, from the same records."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import clipbias
from clipbias.cli.app import app

WITHOUT = {
    "cache clear", "cache verify", "data get", "data pack", "data show", "demo", "finetune ablation",
    "finetune debias", "finetune drop", "finetune export", "finetune long-only", "finetune longclip",
    "finetune longclip-weights", "finetune pretrain-nano", "finetune sample", "results build", "results rm",
}  # fmt: skip
"""Commands that do something and print no table."""
COMMANDS = (
    "models", "models nano-clip", "data list", "data sentences scenes", "data bias scenes", "data check DATA",
    "cache info", "probe --list", "probe drop-first -m nano-debias --limit 20 --dry-run",
    "probe drop-first -m nano-debias --limit 20 --out RESULTS", "leaderboard", "leaderboard --results RESULTS",
    "card --results RESULTS", "compare nano-debias nano-longclip --results RESULTS --queries 2",
    "report --results RESULTS --out FIGURES --examples 0 --format svg", "results list RESULTS", "results check RESULTS",
    "results show RUN", "published --data docci", "doctor --no-online",
)  # fmt: skip
FREE = {"files", "versions", "settings", "model_options", "options"}
"""Records whose keys are names of files, packages and settings."""


def commands(group: object = None, path: str = "") -> Iterator[tuple[str, object]]:
    group = typer.main.get_command(app) if group is None else group
    inner = getattr(group, "commands", None)
    if inner is None:
        yield path.strip(), group
    for name, command in (inner or {}).items():
        yield from commands(command, f"{path} {name}")


def test_only_commands_that_print_no_table_lack_the_switches():
    without = set()
    for path, command in commands():
        options = {word for parameter in command.params for word in parameter.opts}
        assert ("--json" in options) == ("--csv" in options), path
        without |= set() if "--json" in options else {path}
    assert without == WITHOUT


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Results of two models, a folder of one picture, and where a report goes."""
    folder = tmp_path_factory.mktemp("machine")
    found = clipbias.probe("drop-first", ["nano-debias", "nano-longclip"], limit=20, cache=False, progress=False)
    found.save(folder / "results")
    data = folder / "data"
    data.mkdir()
    scenes = clipbias.load_dataset("scenes")
    scenes.load_image(0).save(data / "a.png")
    (data / "a.txt").write_text(scenes.captions[0])
    (run,) = (folder / "results").glob("nano-debias@*/*/drop-first")
    return {"RESULTS": folder / "results", "DATA": data, "FIGURES": folder / "figures", "RUN": run}


def keys(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from () if key in FREE else keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from keys(inner)


def plain(value: object) -> Iterator[object]:
    if isinstance(value, (dict, list)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from plain(inner)
    else:
        yield value


@pytest.mark.parametrize("command", COMMANDS)
def test_json_and_csv_say_the_same_in_snake_case_with_true_booleans(places, command):
    words = [str(places.get(word, word)) for word in command.split()]
    told = CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False)
    found = json.loads(told.stdout)
    assert found and told.exit_code == 0
    assert all(re.fullmatch(r"[a-z0-9_@]+", key) for key in keys(found)), sorted(set(keys(found)))
    assert not {"yes", "no", "True", "False"} & {value for value in plain(found) if isinstance(value, str)}
    told = CliRunner().invoke(app, [*words, "--csv"], catch_exceptions=False)
    rows = list(csv.DictReader(io.StringIO(told.stdout)))
    assert rows and all(re.fullmatch(r"[a-z0-9_@]+", key) for key in rows[0]) and None not in rows[0]
    if isinstance(found, list) and not command.startswith("compare"):
        assert len(rows) == len(found)
        for row, record in zip(rows, found, strict=True):
            for key, value in record.items():
                if isinstance(value, bool):
                    assert row[key] == str(value).lower()
                elif value is None:
                    assert row.get(key, "") == ""
                elif isinstance(value, (int, float)):
                    assert float(row[key]) == value


def test_numbers_of_the_leaderboard_are_numbers(places):
    told = CliRunner().invoke(app, ["leaderboard", "--json"], catch_exceptions=False)
    first = next(one for one in json.loads(told.stdout) if one["model"] == "nano-debias")
    table = (Path(__file__).parents[2] / "leaderboards" / "scenes-2.csv").read_text("utf-8")
    (line,) = (row for row in csv.DictReader(io.StringIO(table)) if row["model"] == "nano-debias")
    assert first["origin"] == "measured" and first["t2i_recall_1"] == float(line["T2I R@1"])
    assert first["drop_first_low"] < first["drop_first"] < first["drop_first_high"] < 0


def test_short_help_is_whole_at_80_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for group in ([], ["data"], ["results"], ["cache"], ["models"]):
        assert "..." not in CliRunner().invoke(app, [*group, "--help"]).stdout.split("Commands:")[-1], group
