"""Two models, or two data sets, that differ never share results; nothing is written outside the results folder."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hub_models import write_hub_folder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tests_support import SVG, examples, make_row, make_run, write_models

from clipbias.data.loading import load_dataset
from clipbias.errors import UserError
from clipbias.models.loading import checkpoint_name, load_model
from clipbias.names import unprintable
from clipbias.probe.run import run_probe
from clipbias.probe.session import Session
from clipbias.probe.spec import find_probes
from clipbias.results.folder import load_runs, place_for, read_run, run_folder, write_run
from clipbias.results.record import QUERY_COLUMNS

HOSTILE = [
    "..",
    "../../x",
    "/abs/photos.csv",
    "C:\\x",
    "nul",
    "a" * 300,
    "\u0430",
    "a",
    "A",
    "\x1b[2J",
    "run.json",
    "",
    "~",
    "a/b",
]
names = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=20))


def small(scale: int = 1):
    dataset = load_dataset("scenes")
    count = 12 * scale
    return replace(
        dataset,
        image_names=dataset.image_names[:count],
        captions=dataset.captions[:count],
        caption_image=dataset.caption_image[:count],
        sentences=dataset.sentences[:count],
        short_captions=None,
    )


@pytest.fixture(scope="module")
def encoder():
    return load_model("nano-clip")


def probe():
    (found,) = find_probes("drop-first")
    return found


def test_checkpoints_are_called_by_their_run(tmp_path):
    assert checkpoint_name(Path("runs/a/model.pt")) == "a" and checkpoint_name(Path("runs/b/model")) == "b"
    assert checkpoint_name(Path("runs/a/probes/debias.pt")) == "debias"
    assert checkpoint_name(Path("runs/a/checkpoints/epoch_3.pt")) == "a"


def test_two_checkpoints_called_model_have_two_folders(tmp_path):
    weights = Path(load_model.__code__.co_filename).parents[1] / "weights"
    for run, file in (("a", "nano-clip.pt"), ("b", "nano-drop.pt")):
        (tmp_path / run).mkdir()
        (tmp_path / run / "model.pt").write_bytes((weights / file).read_bytes())
    folders = {
        run_probe(Session(load_model(str(tmp_path / r / "model.pt")), small()), probe(), tmp_path / "out") for r in "ab"
    }
    assert {f.parent.parent.name.split("@")[0] for f in folders} == {"a", "b"}
    # The same path with other weights is another model, too: nothing of the first is touched.
    first = sorted(folders)[0]
    before = {p: p.read_bytes() for p in first.iterdir()}
    (tmp_path / "a" / "model.pt").write_bytes((weights / "nano-debias.pt").read_bytes())
    third = run_probe(Session(load_model(str(tmp_path / "a" / "model.pt")), small()), probe(), tmp_path / "out")
    assert third not in folders and {p: p.read_bytes() for p in first.iterdir()} == before
    assert len({one.run.model for one in load_runs([tmp_path / "out"])}) == 3


def test_two_revisions_of_a_hub_repository_are_two_models(tmp_path, monkeypatch):
    import torch
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    kept = tmp_path / "hub" / "models--someone--tiny"
    commits = {"a" * 40: 1, "b" * 40: 2}
    for commit, seed in commits.items():
        torch.manual_seed(seed)
        write_hub_folder("siglip", kept / "snapshots" / commit)
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text("b" * 40)
    models = [load_model("hf:someone/tiny", revision=commit) for commit in commits]
    folders = [run_probe(Session(model, small()), probe(), tmp_path / "out") for model in models]
    runs = [read_run(folder) for folder in folders]
    assert len(set(folders)) == 2 and runs[0].fingerprint != runs[1].fingerprint
    assert [run.model_options["revision"] for run in runs] == list(commits)
    # Without a revision it is the newest one, and its run is found again.
    assert run_probe(Session(load_model("hf:someone/tiny"), small()), probe(), tmp_path / "out") == folders[1]


@pytest.mark.parametrize("part", ["images", "tokens", "options", "context_length", "precision", "device", "weights"])
def test_a_model_that_differs_in_one_thing_has_results_of_its_own(encoder, tmp_path, monkeypatch, part):
    from clipbias.models.identity import with_fingerprint

    first = run_probe(Session(encoder, small()), probe(), tmp_path)
    other = {k: v for k, v in encoder.identity().items() if k != "fingerprint"}
    other[part] = {"other": "x"} if isinstance(other[part], dict) else f"{other[part]}x"
    monkeypatch.setattr(type(encoder), "identity", lambda self: with_fingerprint(other))
    second = run_probe(Session(encoder, small()), probe(), tmp_path)
    assert first != second and read_run(first).fingerprint != read_run(second).fingerprint


def photos(folder: Path, shade: int) -> Path:
    folder.mkdir()
    lines = ["image,caption"]
    for i in range(4):
        Image.fromarray(np.full((8, 8, 3), shade + i, np.uint8)).save(folder / f"{i}.png")
        lines.append(f"{i}.png,A thing. It is {i}. It stands. It is seen.")
    (folder / "val.csv").write_text("\n".join(lines))
    return folder / "val.csv"


def test_the_same_captions_on_other_images_are_other_data(encoder, tmp_path):
    sets = [load_dataset(str(photos(tmp_path / name, shade))) for name, shade in (("a", 10), ("b", 90))]
    folders = [run_probe(Session(encoder, d), probe(), tmp_path / "out") for d in sets]
    assert folders[0] != folders[1]
    (tmp_path / "a" / "2.png").unlink()
    with pytest.raises(UserError, match=r"2\.png"):
        run_probe(Session(encoder, load_dataset(str(tmp_path / "a" / "val.csv"))), probe(), tmp_path / "out")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names, names, names)
def test_whatever_names_are_runs_are_written_below_the_results_folder(tmp_path, model, data, probe_name):
    results = tmp_path / "results"
    run = make_run(model=model, data=data, probe=probe_name, identity={"fingerprint": "../" + model[:20]})
    folder = place_for(results, run)
    assert folder.resolve().is_relative_to(results.resolve())
    assert len(folder.relative_to(results).parts) == 3


@settings(max_examples=100, deadline=None)
@given(names, names)
def test_names_that_differ_never_share_a_folder(one, other):
    paths = {str(run_folder(Path("r"), name, "scenes", "swap", "12345678")).lower() for name in (one, other)}
    assert len(paths) == len({one, other})


def write(results: Path, **changes: object) -> Path:
    import pandas as pd

    run = make_run(**changes)
    folder = place_for(results, run)
    queries = pd.DataFrame([["full", "t2i", 0, 0, 0, 0, 1, 0.5, 0.1, True, False]], columns=list(QUERY_COLUMNS))
    write_run(folder, run, [make_row()], queries)
    return folder


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_nothing_is_written_through_links(tmp_path, level):
    folder = write(tmp_path / "results")
    outside = tmp_path / "outside"
    outside.mkdir()
    place = [folder.parent.parent, folder.parent, folder, folder / "rows.jsonl"][level]
    moved = outside / place.name
    os.rename(place, moved)
    place.symlink_to(moved)
    before = {p: p.read_bytes() for p in outside.rglob("*") if p.is_file()}
    with pytest.raises(UserError, match="is a link"):
        write(tmp_path / "results")
    assert {p: p.read_bytes() for p in outside.rglob("*") if p.is_file()} == before


def test_another_run_or_foreign_files_in_the_folder_are_left_alone(tmp_path):
    folder = write(tmp_path / "results")
    other = make_run(model_fingerprint="f" * 16)
    os.rename(folder.parent.parent, tmp_path / "results" / place_for(tmp_path / "none", other).parts[-3])
    with pytest.raises(UserError, match="another model"):
        place_for(tmp_path / "results", other)
    folder = write(tmp_path / "more")
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"notes\.txt"):
        write(tmp_path / "more")
    assert (folder / "notes.txt").read_text() == "mine"


def listing(folder: Path) -> dict[Path, bytes | None]:
    return {p: p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


@examples(3, 60)
@given(names.filter(lambda n: not unprintable(n)), names.filter(lambda n: not unprintable(n)))
def test_a_report_writes_below_its_folder_whatever_models_and_data_are_called(tmp_path_factory, model, data):
    from clipbias.report.build import build_report

    top = tmp_path_factory.mktemp("report")
    (top / "user").mkdir()
    (top / "user" / "photos.csv").write_text("mine")
    data = data.replace("/abs", str(top / "user"))
    write_models(top / "results", model, data)
    before = listing(top)
    with suppress(UserError):  # names that would not print as they are stay refused
        build_report([top / "results"], top / "user" / "figures", look=SVG)
    after = {p: content for p, content in listing(top).items() if not p.is_relative_to(top / "user" / "figures")}
    assert after == before


def test_data_show_writes_into_out_also_for_a_path(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from clipbias.cli.app import app

    table = photos(tmp_path / "a", 10)
    before = listing(tmp_path / "a")
    run = CliRunner().invoke(app, ["data", "show", str(table), "1", "--out", str(tmp_path / "out")])
    assert run.exit_code == 0, run.output
    assert listing(tmp_path / "a") == before
    assert {p.suffix for p in (tmp_path / "out").iterdir()} == {".png", ".txt"}
