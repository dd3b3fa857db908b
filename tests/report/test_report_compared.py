"""Models side by side: shared ranks, changed queries, and the captions that changed most."""

from __future__ import annotations

import base64
import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tests_support import SVG, make_row, make_run

import clipbias
from clipbias.data.build import without_images
from clipbias.data.loading import load_dataset
from clipbias.errors import UserError
from clipbias.probe.run import run_probe
from clipbias.probe.session import Session
from clipbias.probe.spec import find_probes
from clipbias.report.ablations import ablation_figure, ablation_figures, seeds_figure, trajectory_figure
from clipbias.report.examples import data_uri, find_examples
from clipbias.report.figures import bars_figure
from clipbias.report.heat import first_share, token_changes
from clipbias.report.load import published_drops, read_ablation, read_trajectory
from clipbias.results.compare import changed_queries, compare_runs, run_pairs
from clipbias.results.folder import load_runs, read_queries, run_folder, write_run
from clipbias.results.queries import ranks
from clipbias.results.ranks import shared_ranks
from clipbias.results.record import LEFT_OUT, QUERY_COLUMNS


def write(out, model, places, **changes):
    """A drop-first run with these T2I ranks on full captions."""
    lines = [["full", "t2i", query, query, rank - 1, 0, 1, 0.5, 0.1, True, True] for query, rank in enumerate(places)]
    folder = run_folder(out, model, "scenes", "drop-first")
    run = make_run(probe="drop-first", model=model, data="scenes", **changes)
    write_run(folder, run, [make_row(probe="drop-first")], pd.DataFrame(lines, columns=list(QUERY_COLUMNS)))
    return folder


def test_ranks_are_given_within_one_data_set_only(tmp_path):
    for model, good in (("a", 90), ("b", 50), ("e", 50)):
        write(tmp_path, model, [1] * good + [2] * (100 - good))
    write(tmp_path / "other", "c", [2] * 100, data_fingerprint="other")
    table = shared_ranks(load_runs([tmp_path])).set_index("model")["rank"]
    assert table.to_dict() == {"a": "1", "b": "2-3", "c": "1", "e": "2-3"}


def test_models_are_compared_by_name_and_their_changed_queries_are_named(tmp_path):
    one = write(tmp_path, "a", [1, 1, 9, 2, 1])
    two = write(tmp_path, "b", [1, 50, 1, 3, 4])
    ((first, second),) = run_pairs("a", "b", tmp_path)
    assert (first.folder, second.folder) == (one, two)
    assert run_pairs(str(one), str(two), tmp_path) == [(first, second)]
    table = changed_queries(first, second)
    assert table[["query", "rank_a", "rank_b"]].to_numpy().tolist() == [[1, 1, 50], [2, 9, 1], [4, 1, 4]]
    (difference,) = compare_runs(first, second)
    assert difference.apart.value == pytest.approx(-0.2) and difference.drop_first is None
    with pytest.raises(UserError, match="'c' is neither a run folder nor a model in"):
        run_pairs("a", "c", tmp_path)
    write(tmp_path / "other", "d", [1], data_fingerprint="other")
    with pytest.raises(UserError, match="no probe in common on the same data"):
        run_pairs("a", "d", tmp_path)


def test_examples_are_the_captions_that_fell_furthest(tmp_path, few_scenes):
    dataset = load_dataset("scenes")
    encoder = clipbias.load_model("nano-longclip")
    session = Session(encoder, dataset)
    folder = run_probe(session, find_probes("drop-first")[0], tmp_path)
    examples = find_examples(load_runs([tmp_path]), 3)
    queries = read_queries(folder).query("direction == 't2i'")
    queries = queries.assign(rank=ranks(queries)).pivot(index="query", columns="condition", values="rank")
    fall = np.log(queries["drop-first"] / queries["full"])
    assert len(examples) == 3
    falls = [np.log(float(e.models[0].rank_after) / float(e.models[0].rank)) for e in examples]
    assert falls == pytest.approx(sorted(fall, reverse=True)[:3])
    for example in examples:
        number = dataset.captions.index(example.before)
        assert example.after == " ".join(dataset.sentences[number][1:])
        picture = Image.open(io.BytesIO(base64.b64decode(example.image.split(",")[1])))
        assert picture.tobytes() == dataset.load_image(number).convert("RGB").tobytes()
        # What was ranked first instead is the image nearest to the caption after the change.
        nearest = int((session.images() @ encoder.encode_texts([example.after])[0]).argmax())
        assert example.models[0].leader == nearest != number
        assert example.instead == {nearest: data_uri(dataset.load_image(nearest))}


def test_examples_pass_over_a_model_that_cannot_be_asked_a_condition(tmp_path, few_scenes):
    for model in ("nano-clip", "nano-longclip"):  # the first has no place for 80 pads
        run_probe(
            Session(clipbias.load_model(model), load_dataset("scenes")), find_probes("token-padding")[0], tmp_path
        )
    examples = find_examples(load_runs([tmp_path]), 3)
    assert examples and {example.condition for example in examples} <= {"shift-80", "shift-160"}
    assert {seen.model for example in examples for seen in example.models} == {"nano-longclip"}


def test_examples_need_the_data_that_was_run(tmp_path):
    few = without_images(load_dataset("scenes"), range(20, 1000))
    run_probe(Session(clipbias.load_model("nano-clip"), few), find_probes("drop-first")[0], tmp_path)
    assert find_examples(load_runs([tmp_path])) == []


def test_tokens_left_out_are_shown_where_their_characters_are_known():
    table = pd.DataFrame({"query": 3, "condition": ["whole", *(LEFT_OUT.format(n, *s) for n, s in _SPANS)],
                          "cosine": [0.5, 0.4, 0.525]})  # fmt: skip
    changes = token_changes(table, 3, 7)
    assert changes == [(0, 3, 10.0), (4, 7, -2.5)]
    assert first_share(changes, 3) == pytest.approx(80) and first_share([], 3) == 0
    assert token_changes(table, 3, 6) == [] == token_changes(table, 4, 7)  # other texts than were measured


_SPANS = ((1, (0, 3)), (2, (4, 7)))


def test_large_pictures_are_made_small():
    uri = data_uri(Image.new("CMYK", (3000, 1000)))
    picture = Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))
    assert uri.startswith("data:image/jpeg;base64,") and picture.size == (192, 64)


def test_published_drops_stand_beside_what_was_measured_under_the_same_name(tmp_path):
    table = published_drops("docci").set_index(["model", "condition"])["value"]
    # The paper's text: Long-CLIP loses 17.1 points without the first sentence; swapped, 9.7 against DeBias-CLIP's 3.5.
    assert table["longclip-b16", "drop-first"] == -17.1
    assert (table["longclip-b16", "swap-1-4"], table["debias-b16", "swap-1-4"]) == (-9.7, -3.5)
    assert published_drops("scenes").empty
    measured = pd.DataFrame(
        [["longclip-b16", c, k, -15.0, -16.0, -14.0] for k, c in enumerate(("drop-first", "swap-1-4"))],
        columns=["model", "condition", "order", "delta", "delta_low", "delta_high"],
    )
    figure = bars_figure(measured, ["longclip-b16"], "delta", "points", published_drops("docci"))
    marks = [line for line in figure.axes[0].lines if line.get_marker() == "D"]
    assert [float(line.get_ydata()[0]) for line in marks] == [-17.1, -9.7]
    assert {line.get_markerfacecolor() for line in marks} == {"none"}
    assert "published" in figure.axes[0].get_legend_handles_labels()[1]


def test_the_ablation_table_is_read_back_and_drawn(tmp_path):
    text = "recipe,measure,mean,spread,runs,values\nbase,T2I R@1,2.0,1.0,3,1 2 3\nbase,change,-2.0,1.0,2,'-1.0 -3.0\n"
    (tmp_path / "ablation.csv").write_text(text)
    table = read_ablation(tmp_path / "ablation.csv")
    assert table["values"].tolist() == [[1, 2, 3], [-1, -3]] and table["mean"].tolist() == [2, -2]
    dots = ablation_figure(table).axes[1].lines[0]
    assert list(dots.get_ydata()) == [-1, -3]
    (alone,) = ablation_figures([tmp_path / "ablation.csv"], tmp_path / "out", [SVG], [])
    assert alone.stem == "ablation"
    text += 'base,"1 padding sentences, T2I change",-2.0,1.0,2,\'-1.0 -3.0\ndrop,"1 pads, T2I change",-2.0,1.0,1,-2\n'
    text += 'debias,"1 padding sentences, T2I change",-2.0,1.0,2,\'-1.0 -3.0\n'
    text += 'base,"2 padding sentences, T2I change",-4.0,1.0,2,\'-2.0 -6.0\n'
    (tmp_path / "ablation.csv").write_text(text)
    drawn = ablation_figures([tmp_path / "ablation.csv"], tmp_path / "out", [SVG], [])
    assert [one.stem for one in drawn] == ["ablation", "ablation-padding"]
    axes = seeds_figure(read_ablation(tmp_path / "ablation.csv")).axes[0]
    lines = [list(zip(*map(list, line.get_data()), strict=True)) for line in axes.lines[:3]]
    # Two seeds of the base, then their mean; the unpadded caption is where changes start.
    assert lines == [[(0, 0), (1, -1), (2, -2)], [(0, 0), (1, -3), (2, -6)], [(0, 0), (1, -2), (2, -4)]]
    assert [t.get_text() for t in axes.figure.legends[0].get_texts()] == ["pre-trained base", "DeBias-CLIP's recipe"]
    (tmp_path / "ablation.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match=r"ablation\.csv: not a table of"):
        read_ablation(tmp_path / "ablation.csv")


def test_the_trajectory_is_read_back_and_drawn(tmp_path):
    lines = [("base", s, t, "R@1", 10.0 * s + t) for s in (0, 1) for t in (1, 2)]
    lines += [("drop", 0, 3, "R@1", 7.0), ("drop", 0, 3, "change", -1.0)]
    table = pd.DataFrame(lines, columns=["recipe", "seed", "step", "measure", "value"])
    path = tmp_path / "ablation-trajectory.csv"
    table.to_csv(path, index=False)
    assert read_trajectory(path).equals(table)
    panel = trajectory_figure(read_trajectory(path)).axes[0]
    thick = {line.get_label(): line for line in panel.lines if not line.get_label().startswith("_")}
    assert list(thick["base"].get_xdata()) == [1, 2] and list(thick["base"].get_ydata()) == [6, 7]
    (drawn,) = ablation_figures([tmp_path], tmp_path / "out", [SVG], [])
    assert drawn.stem == "ablation-trajectory" and (tmp_path / "out" / "ablation-trajectory.svg").is_file()
    for lines in ("", "base,x,1,R@1,2\n"):
        path.write_text("recipe,seed,step,measure,value\n" + lines)
        with pytest.raises(UserError, match=r"ablation-trajectory\.csv: not a trajectory of"):
            read_trajectory(path)
