"""The package from Python: the names of the commands, on names, loaded objects, one's own models and pairs."""

from __future__ import annotations

import inspect
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import clipbias
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
    for name in clipbias.__all__:
        assert callable(getattr(clipbias, name)), name


def test_folders_called_like_commands_are_both():
    import clipbias.finetune.recipe
    import clipbias.probe.spec
    import clipbias.report.load

    for name in ("probe", "report", "finetune"):
        found = getattr(clipbias, name)
        assert inspect.ismodule(found)
        assert inspect.signature(found) == inspect.signature(getattr(clipbias.api, name))
    assert clipbias.probe.spec.shipped_probes()


def test_import_is_cheap():
    program = "import sys, clipbias; print({'numpy', 'torch', 'pandas', 'typer', 'rich'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout.strip() == "set()"


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
    assert "nano-debias" in pair._repr_html_()


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
