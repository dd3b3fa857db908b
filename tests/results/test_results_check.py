"""A results folder edited by hand: the check names each edit, also where digests and seal were made to fit again."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from clipbias.cli.app import app
from clipbias.data.loading import load_dataset
from clipbias.errors import CheckFailed, UserError
from clipbias.models.loading import load_model
from clipbias.probe.run import run_probe
from clipbias.probe.session import Session
from clipbias.probe.spec import find_probes
from clipbias.rerun.check import check_folder, distances
from clipbias.results.folder import Finished, file_digest, read_run
from clipbias.results.published import Published
from clipbias.results.record import sealed


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    """A run of a model that ships, on the test scenes."""
    (probe,) = find_probes("drop-first")
    session = Session(load_model("nano-clip"), load_dataset("scenes"))
    return run_probe(session, probe, tmp_path_factory.mktemp("results"))


@pytest.fixture
def folder(sound, tmp_path) -> Path:
    """A copy to edit, in a folder of the same name."""
    wanted = tmp_path.joinpath(*sound.parts[-3:])
    shutil.copytree(sound, wanted)
    return wanted


def test_a_folder_as_written_has_no_fault(folder):
    found = check_folder(folder)
    assert found.faults == ()
    assert any("tokens were cut" in line for line in found.notes)


def resealed(folder: Path) -> None:
    """Digests and seal made to fit, as someone would who knows of them."""
    run = read_run(folder)
    files = {name: file_digest(folder / name) for name in ("rows.jsonl", "queries.parquet")}
    run = replace(run, files=files)
    (folder / "run.json").write_text(json.dumps(asdict(replace(run, seal=sealed(run)))))


def rows(folder: Path, change) -> None:
    path = folder / "rows.jsonl"
    found = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in change(found)))


def one_row(folder: Path, **values) -> None:
    def change(found):
        place = next(i for i, r in enumerate(found) if r["metric"] == "recall@1" and r["delta"] is not None)
        return [r | values if i == place else r for i, r in enumerate(found)]

    rows(folder, change)


def record(folder: Path, **values) -> None:
    path = folder / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def part(folder: Path, name: str, **values) -> None:
    record(folder, **{name: json.loads((folder / "run.json").read_text())[name] | values})


def queries(folder: Path, change) -> None:
    change(pd.read_parquet(folder / "queries.parquet")).to_parquet(folder / "queries.parquet", index=False)


def better(table: pd.DataFrame) -> pd.DataFrame:
    table.loc[table.index[3], ["better", "equal"]] = [0, 0]
    table.loc[table.index[3], "margin"] = 0.25
    return table


ROWS = {
    "a value": (lambda f: one_row(f, value=0.99), "value should be"),
    "an interval's end": (lambda f: one_row(f, low=0.0), "low should be"),
    "a change": (lambda f: one_row(f, delta=0.0), "delta should be"),
    "a p": (lambda f: one_row(f, p=0.5), "p should be"),
    "the count of queries": (lambda f: one_row(f, n=5000), "n should be 1000"),
    "how captions were cut": (lambda f: one_row(f, truncated=0.5), "truncated and tokens_lost"),
    "a row left out": (lambda f: rows(f, lambda found: found[1:]), "is missing"),
    "a row twice": (lambda f: rows(f, lambda found: [*found, found[0]]), "are there twice"),
    "a row of a new metric": (lambda f: rows(f, lambda r: [*r, r[0] | {"metric": "recall@2"}]), "has no queries"),
    "a condition renamed": (
        lambda f: rows(f, lambda r: [x | {"condition": "easy"} if x["condition"] == "drop-first" else x for x in r]),
        "row drop-first i2t mean_margin all: is missing",
    ),
    "a rank": (lambda f: queries(f, better), "value should be"),
    "a query left out": (lambda f: queries(f, lambda t: t.iloc[1:]), "not one each of 0 to 999"),
    "a query twice": (lambda f: queries(f, lambda t: pd.concat([t, t.iloc[:1]])), "is there twice; expected once"),
    "a similarity": (lambda f: queries(f, lambda t: t.assign(cosine=t["cosine"] + 2)), "similarities beyond 1"),
    "a leader": (lambda f: queries(f, lambda t: t.assign(leader=t["cluster"])), "leaders contradict"),
    "more candidates than there are": (lambda f: queries(f, lambda t: t.assign(better=5000)), "candidates"),
}
RECORD = {
    "another model's name": (
        lambda f: (record(f, model="nano-debias"), part(f, "settings", model="nano-debias")),
        "nano-debias",
    ),
    "other weights": (lambda f: record(f, model_fingerprint="0" * 16), "weights are not nano-clip's"),
    "a part of the identity": (lambda f: part(f, "identity", context_length=248), "not that of its parts"),
    "the data's fingerprint": (lambda f: record(f, data_fingerprint="0" * 16), "not scenes as clipbias makes it"),
    "the count of images": (lambda f: record(f, images=999), "999 images"),
    "the seed": (lambda f: record(f, seed=3), "seed"),
    "the precision": (lambda f: record(f, precision="fp16"), "precision"),
    "the command": (lambda f: record(f, command="clipbias probe drop-first --model other"), "command"),
    "the spec": (lambda f: record(f, probe_spec="name = 'x'"), "probe_spec"),
    "the date": (lambda f: record(f, created="2999-01-01T00:00:00+00:00"), "still to come"),
    "a setting": (lambda f: part(f, "settings", seed="0"), "seed"),
    "the schema": (lambda f: record(f, schema=7), "schema"),
    "a field": (lambda f: record(f, score=1.0), "score"),
}


@pytest.mark.parametrize("edit", [*ROWS, *RECORD])
def test_every_edit_by_hand_is_named_though_seal_and_digests_fit(folder, edit):
    change, said = (ROWS | RECORD)[edit]
    change(folder)
    if edit not in ("the schema", "a field"):
        resealed(folder)
    found = check_folder(folder)
    assert any(said in line for line in found.faults), found.faults


@pytest.mark.parametrize("edit", [*ROWS, *RECORD])
def test_every_edit_without_a_new_seal_is_named_by_its_file(folder, edit):
    (ROWS | RECORD)[edit][0](folder)
    file = "run.json" if edit in RECORD else "rows.jsonl"
    assert any(file in line or "queries.parquet" in line for line in check_folder(folder).faults)


def test_what_no_recomputation_can_tell_is_told_by_the_seal(folder):
    record(folder, seconds=1.0, versions={"torch": "9"})
    assert any("seal" in line for line in check_folder(folder).faults)


def test_a_folder_of_another_name_a_foreign_file_and_a_link_are_named(folder, tmp_path):
    (folder / "evil.sh").write_text("x")
    assert any("evil.sh" in line for line in check_folder(folder).faults)
    (folder / "evil.sh").unlink()
    (folder / "rows.jsonl").rename(tmp_path / "rows.jsonl")
    (folder / "rows.jsonl").symlink_to(tmp_path / "rows.jsonl")
    assert any("link" in line for line in check_folder(folder).faults)
    (folder / "rows.jsonl").unlink()
    shutil.copy(tmp_path / "rows.jsonl", folder)
    moved = folder.rename(folder.with_name("swap"))
    assert any("should be called" in line for line in check_folder(moved).faults)


def test_the_distance_from_published_numbers_stands_with_its_protocol(sound):
    one = Finished(sound, read_run(sound))
    (value,) = (
        100 * r.value
        for r in one.rows
        if (r.condition, r.direction, r.metric, r.scope) == ("full", "t2i", "recall@1", "all")
    )
    blank = Published(
        "m",
        "",
        "nano-clip",
        "scenes",
        "p",
        "t2i",
        "recall@1",
        "",
        "percent",
        0.0,
        "https://arxiv.org/abs/1",
        "T",
        "a",
        "",
    )
    near, far = (replace(blank, value=round(v, 1)) for v in (value, value + 20))
    found = distances(one, (near, far))
    assert [d.inside for d in found] == [True, False] and found[0].protocol == "p"
    assert abs(found[1].measured - found[1].published + 20) < 0.06


def test_the_commands_list_show_check_and_remove(folder, tmp_path):
    def run(*arguments):
        return CliRunner().invoke(app, ["results", *map(str, arguments)])

    assert "nano-clip" in run("list", tmp_path).output
    assert re.search("again +clipbias probe drop-first --model nano-clip", run("show", folder).output)
    assert run("check", tmp_path).exit_code == 0
    one_row(folder, value=0.99)
    failed = run("check", tmp_path, "--json")
    assert isinstance(failed.exception, CheckFailed) and "value should be" in failed.output
    (folder.parent / "mine.txt").write_text("mine")
    assert run("rm", folder, "--yes").exit_code == 0
    assert not folder.exists() and (folder.parent / "mine.txt").exists()
    assert isinstance(run("check", tmp_path).exception, UserError)
