"""The report from rows that the test makes up."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests_support import HOSTILE, make_row, make_run, write_models

from clipbias.errors import UserError
from clipbias.report.build import build_report
from clipbias.report.figures import headline
from clipbias.report.load import all_rows
from clipbias.report.style import model_styles
from clipbias.report.tables import leaderboard, to_csv, to_latex, to_markdown
from clipbias.results.folder import load_runs, write_run
from clipbias.results.record import QUERY_COLUMNS


@pytest.mark.parametrize("models", [["one"], [f"a model with quite a long name, number {i}" for i in range(20)]])
def test_every_figure_is_written_in_every_format_with_its_numbers(tmp_path, models):
    for number, model in enumerate(models):
        write_models(tmp_path / str(number), model)
    drawn = build_report([tmp_path], tmp_path / "out")
    assert [d.stem for d in drawn] == ["d-figure2-padding", "d-figure3-swap", "d-drops"]
    magic = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}
    for figure in drawn:
        for kind, start in magic.items():
            assert (tmp_path / "out" / f"{figure.stem}.{kind}").read_bytes().startswith(start)
        table = list(csv.DictReader(io.StringIO((tmp_path / "out" / f"{figure.stem}.csv").read_text())))
        assert {line["model"] for line in table} == set(models)


def test_names_from_results_stay_text_everywhere(tmp_path):
    write_models(tmp_path / "results", HOSTILE)
    build_report([tmp_path / "results"], tmp_path / "out")
    page = (tmp_path / "out" / "index.html").read_text()
    assert "<script>alert" not in page and page.count("<script>") == 2
    assert "&lt;script&gt;alert(1)" in page
    markup = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    links = set(re.findall(r'(?:src|href)="((?!data:|#)[^"]*)"', markup))
    assert links == {"https://arxiv.org/abs/2602.22419"}
    assert "<script>" not in (tmp_path / "out" / "leaderboard.md").read_text()
    for figure in (tmp_path / "out").glob("*.svg"):
        assert "<script>" not in figure.read_text()


def test_a_formula_in_a_csv_is_defused_and_numbers_are_not():
    text = to_csv(
        pd.DataFrame({"model": ["=1+1", "+cmd", "-x", "@a"], "change": ["-1.0", "+2.0", "-3.0 to +1.0", "4"]})
    )
    lines = list(csv.reader(io.StringIO(text)))[1:]
    assert lines == [["'=1+1", "-1.0"], ["'+cmd", "+2.0"], ["'-x", "-3.0 to +1.0"], ["'@a", "4"]]


def test_markdown_cells_stay_in_their_column():
    assert to_markdown(pd.DataFrame({"a": ["x|y\nz"], "b": [None]})).splitlines()[2] == "| x\\|y z |  |"


def test_headline_is_percent_on_eligible_captions(tmp_path):
    write_models(tmp_path, "m")
    runs = load_runs([tmp_path])
    rows = all_rows(runs)
    assert len(runs) == 4
    table = headline(rows, "padding", "t2i")
    raw = rows.query("probe == 'padding' and direction == 't2i' and metric == 'recall@1' and scope == 'eligible'")
    np.testing.assert_allclose(table["value"], 100 * raw.sort_values("order")["value"].to_numpy())
    assert table["delta"].dropna().tolist() == pytest.approx([-10, -10])


def test_the_leaderboard_is_sorted_and_shows_what_was_measured(tmp_path):
    for model in ("a", "bb", "ccc"):
        write_models(tmp_path, model)
    rows = all_rows(load_runs([tmp_path]))
    board = leaderboard(rows)
    assert board["T2I R@1"].astype(float).is_monotonic_decreasing
    assert set(board["drop first"]) == {"-10.0"} and set(board["swap 1-4 95%"]) == {"-15.0 to -5.0"}


def test_the_same_run_twice_is_one_and_models_of_one_name_are_told_apart(tmp_path):
    write_models(tmp_path / "a", "m")
    write_models(tmp_path / "b", "m")
    assert len(load_runs([tmp_path])) == 4
    write_models(tmp_path / "c", "m", model_fingerprint="other")
    assert {one.run.model for one in load_runs([tmp_path])} == {"m@0", "m@other"}
    write_models(tmp_path / "d", "m", probe_spec="another question")
    with pytest.raises(UserError, match="there twice and differs"):
        load_runs([tmp_path])


def test_unfinished_runs_are_left_out_and_nothing_at_all_is_said(tmp_path):
    write_models(tmp_path, "m")
    for file in tmp_path.rglob("run.json"):
        file.rename(file.with_name("run.part"))
    with pytest.raises(UserError, match="no finished run"):
        all_rows(load_runs([tmp_path]))


def test_a_model_keeps_its_style_and_no_two_of_28_share_one():
    names = [str(i) for i in range(28)]
    styles = model_styles(names)
    assert len({json.dumps(s, sort_keys=True) for s in styles.values()}) == 28
    assert model_styles(names) == styles


def test_latex_cells_are_escaped_and_numbers_are_set_right():
    text = to_latex(pd.DataFrame({"model": ["a_b & 50%\\x{y}"], "R@1": ["-1.5"]}))
    assert r"a\_b \& 50\%\textbackslash{}x\{y\} & -1.5 \\" in text
    assert text.startswith(r"\begin{tabular}{lr}") and r"\midrule" in text


def test_curves_without_a_direction_become_figures(tmp_path):
    rows = [
        make_row(
            probe="needle", condition="fillers-0", direction="", metric="needle_accuracy", x=float(k), value=0.9, n=20
        )
        for k in (1, 2, 3)
    ]
    rows += [
        make_row(
            probe="needle",
            condition="fillers-0",
            direction="",
            metric="needle_cut",
            x=float(k),
            value=float(k == 3),
            n=20,
        )
        for k in (1, 2, 3)
    ]
    rows += [
        make_row(probe="needle", condition="sentences-2", direction="", metric=metric, x=x, value=value, n=20)
        for metric, x, value in (
            ("attention_by_sentence", 1.0, 0.8),
            ("attention_by_sentence", 2.0, 0.2),
            ("tokens_by_sentence", 1.0, 0.6),
            ("tokens_by_sentence", 2.0, 0.4),
        )
    ]
    rows += [
        make_row(
            probe="needle",
            condition="all",
            direction="",
            metric="attention_by_token",
            x=float(k),
            value=0.1,
            n=20 if k < 3 else 0,
        )
        for k in (1, 2, 3)
    ]
    empty = pd.DataFrame(columns=list(QUERY_COLUMNS))
    write_run(tmp_path / "run", make_run(probe="needle"), rows, empty)
    drawn = {d.stem: d.table for d in build_report([tmp_path], tmp_path / "out")}
    assert set(drawn) == {"d-needle-fillers-0", "d-attention-by-token", "d-attention-by-sentence"}
    assert drawn["d-needle-fillers-0"]["value"].tolist() == pytest.approx([90.0] * 3)
    assert drawn["d-needle-fillers-0"]["cut"].tolist() == [0.0, 0.0, 100.0]
    assert drawn["d-attention-by-sentence"]["tokens"].tolist() == pytest.approx([60.0, 40.0])
    # Positions that hardly any caption reaches are left out.
    assert drawn["d-attention-by-token"]["x"].tolist() == [1.0, 2.0]


def test_the_committed_leaderboards_come_out_of_the_committed_results_to_the_byte(tmp_path):
    folder = Path(__file__).parents[2] / "leaderboards"
    build_report([folder / "results", folder / "ablation-scenes.csv"], tmp_path / "one")
    # Where these differ, leaderboards/README.md says how the results and the tables are made again.
    for made, committed in (("leaderboard", "scenes"), ("cards", "scenes-cards")):
        for suffix in (".csv", ".md"):
            assert (tmp_path / "one" / (made + suffix)).read_bytes() == (folder / (committed + suffix)).read_bytes()
    build_report([folder / "results", folder / "ablation-scenes.csv"], tmp_path / "two")
    for one in (tmp_path / "one").iterdir():
        assert one.read_bytes() == (tmp_path / "two" / one.name).read_bytes(), one.name
