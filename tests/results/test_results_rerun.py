"""A run is run again from its record: equal where nothing changed, and what changed is named."""

from __future__ import annotations

import json
import shutil
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from clipbias.cli.app import app
from clipbias.errors import CheckFailed
from clipbias.models.entry import PACKAGED
from clipbias.rerun.rerun import Sessions
from clipbias.results.settings import OF_DATA, OF_MODEL, Settings

COMMON = ["--device", "cpu", "--no-cache"]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Twelve pictures with captions, a checkpoint, and a run of it with every kind of setting."""
    top = tmp_path_factory.mktemp("rerun")
    lines = ["image,caption"]
    for i in range(12):
        pixels = np.full((40, 60, 3), 20 * i, np.uint8)
        pixels[: 3 * i + 1, :20] = 255 - 15 * i
        Image.fromarray(pixels).save(top / f"{i}.png")
        lines.append(f"{i}.png,A {i} red circle. A blue square lies left. Ground {i} is green. Nothing else is there.")
    (top / "val.csv").write_text("\n".join(lines))
    (top / "runs" / "mine").mkdir(parents=True)
    shutil.copy(PACKAGED / "nano-longclip.pt", top / "runs" / "mine" / "model.pt")
    return top


def run(*arguments: object) -> object:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def probed(place: Path, out: Path) -> Path:
    data, model = place / "val.csv", place / "runs" / "mine" / "model.pt"
    asked = run("probe", "drop-first", "--model", model, "--data", data, "--seed", 7, "--out", out, *COMMON)
    assert asked.exit_code == 0, asked.output
    (folder,) = (f.parent for f in out.rglob("run.json"))
    return folder


def test_a_run_of_a_checkpoint_on_own_data_runs_again_equal(place, tmp_path):
    folder = probed(place, tmp_path / "out")
    again = run("rerun", folder, "--json")
    assert again.exit_code == 0, again.output
    (record,) = json.loads(again.stdout)
    assert record["equal"] and record["rows"] > 20 and record["largest"] == 0
    assert "--seed 7" in record["command"] and "runs/mine/model.pt" in record["command"]


def test_the_recorded_command_makes_the_same_rows(place, tmp_path):
    import shlex

    folder = probed(place, tmp_path / "out")
    command = json.loads((folder / "run.json").read_text())["command"]
    assert run(*shlex.split(command)[1:], "--out", tmp_path / "again", "--no-cache").exit_code == 0
    (new,) = (f.parent for f in (tmp_path / "again").rglob("run.json"))
    assert new.relative_to(tmp_path / "again") == folder.relative_to(tmp_path / "out")
    assert (new / "rows.jsonl").read_bytes() == (folder / "rows.jsonl").read_bytes()


def edited(folder: Path, file: str, change) -> None:
    path = folder / file
    lines = path.read_text().splitlines() if file.endswith("l") else [path.read_text()]
    path.write_text("\n".join(json.dumps(change(json.loads(line))) for line in lines) + "\n")


def test_an_edited_row_another_model_and_other_images_are_named(place, tmp_path):
    folder = probed(place, tmp_path / "out")
    edited(
        folder, "rows.jsonl", lambda row: row | ({"value": row["value"] + 0.1} if row["metric"] == "recall@1" else {})
    )
    again = run("rerun", folder)
    assert isinstance(again.exception, CheckFailed)
    assert "recall@1 eligible: value was" in again.output
    other = run("rerun", folder, "--weights", PACKAGED / "nano-drop.pt")
    assert isinstance(other.exception, CheckFailed) and "model: weights was" in other.output
    copy = tmp_path / "data"
    shutil.copytree(place, copy)
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(copy / "3.png")
    edited(
        folder, "run.json", lambda record: record | {"settings": record["settings"] | {"data": str(copy / "val.csv")}}
    )
    moved = run("rerun", folder)
    assert isinstance(moved.exception, CheckFailed) and "data: fingerprint was" in moved.output


def test_a_record_of_schema_1_is_compared_in_what_both_schemas_mean_alike():
    from tests_support import make_row, make_run

    from clipbias.rerun.rerun import record_differences, row_differences

    old, new = make_run(schema=1, data_fingerprint="a"), make_run(data_fingerprint="b")
    assert record_differences(old, new) == []
    assert record_differences(make_run(data_fingerprint="a"), new) == [
        "data: fingerprint was a, now b: other captions or images"
    ]
    one, two = [make_row(value=0.5, low=0.1)], [make_row(value=0.5, low=0.2)]
    assert row_differences(one, two, 0.01, ("value",)) == ([], 0.0)
    assert row_differences(one, two, 0.01)[0] == ["row full t2i recall@1 eligible: low was 0.1, now 0.2"]


def test_records_that_differ_in_one_setting_have_the_data_and_the_model_of_their_own():
    """One after the other, as `clipbias rerun` takes them; each setting but the probe and the seed counts."""
    asked = Settings(probe="drop-first", model="nano-clip", data="scenes", split="validation")
    sessions = Sessions()
    whole = sessions.of(asked)
    few = sessions.of(asked.changed(limit=5))
    assert (len(whole.dataset), len(few.dataset)) == (1000, 5) and few.encoder is whole.encoder
    assert sessions.of(asked.changed(limit=5, probe="swap")) is few
    other = sessions.of(asked.changed(limit=5, seed=1))
    assert other.dataset is few.dataset and other.encoder is few.encoder and other is not few
    assert set(OF_MODEL) | set(OF_DATA) == {field.name for field in fields(Settings)} - {"probe", "seed"}
