"""The package from Python: the names of the commands, on names, loaded objects, one's own models and pairs."""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

import clipbias
from clipbias.cli.app import app
from clipbias.errors import UserError


@pytest.fixture(scope="module")
def pair():
    """Two models on 40 scenes, run once for this file."""
    return clipbias.probe(
        "drop-first", model=["nano-debias", "nano-longclip"], data="scenes", limit=40, cache=False, progress=False
    )


class Letters:
    """A model of one's own: counts of letters, and pixels."""

    def encode_texts(self, texts):
        return np.stack([np.bincount(np.frombuffer(t.encode(), np.uint8), minlength=256).astype(float) for t in texts])

    def encode_images(self, images):
        return np.stack([np.asarray(image.resize((16, 16)).convert("L"), float).ravel() for image in images])


def test_everything_public_is_listed_and_there():
    assert set(clipbias.__all__) <= set(dir(clipbias))
    stub = ast.parse(Path(clipbias.__file__).with_suffix(".pyi").read_text("utf-8"))
    names = [one.asname for node in stub.body if isinstance(node, ast.ImportFrom) for one in node.names]
    assert sorted(names) == clipbias.__all__ and "probe" in names
    for name in clipbias.__all__:
        assert callable(getattr(clipbias, name)), name


def test_folders_called_like_commands_are_both():
    import clipbias.api.ask
    import clipbias.finetune.recipe
    import clipbias.probe.spec
    import clipbias.report.load

    for name in ("probe", "report", "finetune"):
        found = getattr(clipbias, name)
        assert inspect.ismodule(found)
        assert inspect.signature(found) == inspect.signature(getattr(clipbias.api.ask, name))
    assert clipbias.probe.spec.shipped_probes()


def test_import_is_cheap():
    """Under 0.1 s: of the processor's time, least of three, as other processes may run."""
    program = (
        "import sys, time; at = time.process_time(); import clipbias; took = time.process_time() - at;"
        "print({'numpy', 'torch', 'pandas', 'typer', 'rich'} & set(sys.modules), took)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    runs = [
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment).stdout
        for _ in range(3)
    ]
    assert {run.split()[0] for run in runs} == {"set()"}
    assert min(float(run.split()[1]) for run in runs) < 0.1


def test_results_are_what_the_queries_say(pair):
    frame, queries, summary = pair.to_frame(), pair.queries(), pair.summary()
    assert len(pair) == 2 and len(repr(pair).splitlines()) == 1
    assert set(frame["data"]) == {"scenes[:40]"} and set(frame["n"]) == {40}
    for line in summary.itertuples():
        mine = queries[
            (queries["model"] == line.model)
            & (queries["condition"] == line.condition)
            & (queries["direction"] == line.direction)
        ]
        # Credit by hand: with no candidate better, the share of the right ones among the equals.
        credit = np.where(mine["better"] == 0, mine["right"] / (mine["right"] + mine["equal"]), 0.0)
        assert line.value == pytest.approx(credit.mean())
    table = ElementTree.fromstring(pair._repr_html_())
    lines = [[cell.text for cell in line.iter("td")] for line in table.iter("tr")][1:]
    shown = pd.DataFrame(lines, columns=summary.columns)
    for column in ("value", "low", "delta", "delta_high"):
        np.testing.assert_allclose(shown[column].astype(float), 100 * summary[column].astype(float), atol=0.051)


class Handle:
    """What a notebook shows in one place, one after the other."""

    def __init__(self):
        self.shown = []

    def __call__(self, data, raw, display_id):
        assert raw and display_id
        self.shown.append(data["text/plain"])
        return self

    def update(self, data, raw):
        self.shown.append(data["text/plain"])


def test_progress_in_a_notebook_is_one_line_that_is_replaced(monkeypatch):
    from clipbias.progress import watched

    handle, clock = Handle(), iter(range(100))
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setattr("IPython.display.display", handle)
    monkeypatch.setattr("clipbias.progress.time.monotonic", lambda: next(clock))
    monkeypatch.setattr("clipbias.progress.STEADY", 0.0)
    with watched([{"texts": 100}, {"texts": 100}]) as watch:
        watch.begin(0, "m on d")
        watch("texts", 10, 100)
        watch("texts", 50, 100)
    assert handle.shown[0] == "" and handle.shown[-1].startswith("done in ")
    assert re.search(r"^[█░]{12} +\d+%  \d+ s left  1/2 m on d: texts 50/100$", handle.shown[-2]), handle.shown


def test_plot_draws_a_line_a_model(pair):
    axes = pair.plot()
    assert axes.get_ylabel() == "T2I R@1, %"
    assert {text.get_text() for text in axes.get_legend().get_texts()} == {"nano-debias", "nano-longclip"}
    assert pair.plot("i2t", ax=axes) is axes
    with pytest.raises(UserError, match="choose t2i or i2t"):
        pair.plot("up")


def test_saved_results_are_found_again_and_compared(pair, tmp_path):
    pair.save(tmp_path)
    pair.save(tmp_path)
    again = clipbias.load_results(tmp_path)
    pd.testing.assert_frame_equal(
        again.to_frame().sort_values(["model", "direction", "order"], ignore_index=True),
        pair.to_frame().sort_values(["model", "direction", "order"], ignore_index=True),
    )
    compared = clipbias.compare(pair[:1], pair[1:])
    by_name = clipbias.compare("nano-debias", "nano-longclip", results=tmp_path)
    pd.testing.assert_frame_equal(compared, by_name)
    assert set(compared["condition"]) == {"full", "drop-first"}
    assert set(clipbias.card(pair)["scalar"]) == {"first-sentence reliance"}


def test_pairs_and_frames_are_data_and_any_object_is_a_model():
    scenes = clipbias.load_dataset("scenes")
    pairs = [(scenes.load_image(i), scenes.captions[i]) for i in range(12)]
    given = [pairs, pd.DataFrame(pairs, columns=["image", "caption"])]
    first, second = (clipbias.probe("drop-first", Letters(), data, cache=False, progress=False) for data in given)
    assert first[0].run.model == "Letters" and first[0].run.images == 12
    columns = ["value", "low", "high"]
    pd.testing.assert_frame_equal(first.to_frame()[columns], second.to_frame()[columns])
    with pytest.raises(UserError, match="pair 0: int is neither"):
        clipbias.probe("drop-first", Letters(), [(3, "a caption")])
    with pytest.raises(UserError, match="one image column is needed"):
        clipbias.probe("drop-first", Letters(), pd.DataFrame({"caption": ["a"]}))
    with pytest.raises(UserError, match="did you mean nano-clip"):
        clipbias.probe("drop-first", "nano-clib")


def test_a_data_set_says_what_it_is_and_shows_an_item():
    scenes = clipbias.load_dataset("scenes")
    assert len(scenes) == 1000 and repr(scenes) == "<scenes, split test: 1,000 images, 1,000 captions>"
    item = scenes[7]
    assert list(item.captions) == [scenes.captions[7]] and item.image.tobytes() == scenes.load_image(7).tobytes()
    assert item._repr_png_().startswith(b"\x89PNG") and scenes.captions[7][:30] in item._repr_html_()
    assert scenes[-1].name == scenes.image_names[-1]
    with pytest.raises(IndexError, match="0 to 999"):
        scenes[1000]


def test_what_is_registered_is_listed():
    assert "nano-debias" in clipbias.list_models()
    assert "scenes" in clipbias.list_datasets()
    assert "padding" in clipbias.list_probes()


QUICK = {"steps": 2, "batch_size": 4, "warmup": 1, "pca_dim": 2}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of 8 pictures and their captions."""
    folder = tmp_path_factory.mktemp("photos")
    scenes = clipbias.load_dataset("scenes", split="validation")
    for index in range(8):
        scenes.load_image(index).save(folder / f"{index}.png")
        (folder / f"{index}.txt").write_text(scenes.captions[index])
    return str(folder)


def test_finetune_is_the_command(tmp_path, photos):
    """Two steps in Python and by the command: the same weights, and the loaded model has them."""
    encoder = clipbias.finetune("debias", data=photos, out=tmp_path / "python", seed=3, progress=False, **QUICK)
    settings = [word for key, value in QUICK.items() for word in ("--set", f"{key}={value}")]
    arguments = ["finetune", "debias", "--data", photos, *settings, "--seed", "3", "--no-evaluate"]
    arguments += ["--out", str(tmp_path / "command")]
    run = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert run.exit_code == 0, run.output
    mine, theirs = (torch.load(tmp_path / name / "model.pt", weights_only=True) for name in ("python", "command"))
    assert mine.keys() == theirs.keys() and all(torch.equal(mine[key], theirs[key]) for key in mine)
    base = clipbias.load_model("nano-clip", device="cpu").encode_texts(["a red circle"])
    found = encoder.encode_texts(["a red circle"])
    assert encoder.context_length == 248 and not np.array_equal(base, found)
    np.testing.assert_array_equal(
        clipbias.load_model(str(tmp_path / "python" / "model.pt")).encode_texts(["a red circle"]), found
    )
    with pytest.raises(UserError, match="continue it with --resume"):
        clipbias.finetune("debias", data=photos, out=tmp_path / "python", seed=3, progress=False, **QUICK)


@pytest.mark.parametrize(
    ("recipe", "settings", "words"),
    [
        ("debiaz", {}, "debiaz"),
        ("debias", {"stepz": 1}, "no setting 'stepz'"),
        ("debias", {"steps": "many"}, "steps = 'many'"),
        ("debias", {"base": "nano-clib"}, "did you mean nano-clip"),
        ("debias", {"data": "scenez"}, "scenez"),
    ],
)
def test_what_finetune_cannot_do_is_said(tmp_path, recipe, settings, words):
    with pytest.raises(UserError, match=words):
        clipbias.finetune(recipe, out=tmp_path / "run", progress=False, **settings)
    assert not list((tmp_path / "run").glob("*.pt"))
