"""The report from rows that the test makes up."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from tests_support import HOSTILE, SVG, THOROUGH, make_row, make_run, write_models

from clipbias.errors import UserError
from clipbias.report.build import build_report
from clipbias.report.figures import padding_figure
from clipbias.report.load import all_rows
from clipbias.report.page.charts import chart_rows
from clipbias.report.select import headline
from clipbias.report.style import FORMATS, PAPER, Look, model_styles
from clipbias.report.tables import leaderboard, shown, to_csv, to_latex, to_markdown
from clipbias.results.folder import load_runs, write_run
from clipbias.results.record import QUERY_COLUMNS

MANY = [f"a model with quite a long name, number {i}" for i in range(20)]


@pytest.mark.parametrize(("models", "kinds"), [(["one"], FORMATS), (MANY, ("png",))])
def test_every_figure_is_written_in_the_formats_that_are_asked_for_with_its_numbers(tmp_path, models, kinds):
    for number, model in enumerate(models):
        write_models(tmp_path / str(number), model)
    drawn = build_report([tmp_path], tmp_path / "out", look=Look(formats=kinds))
    assert [d.stem for d in drawn] == ["d-figure2-padding", "d-figure3-swap", "d-drops"]
    magic = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}
    for figure in drawn:
        there = {kind: tmp_path / "out" / f"{figure.stem}.{kind}" for kind in magic}
        assert {kind for kind, path in there.items() if path.exists()} == {*kinds, "svg"}  # the page shows SVG
        assert all(there[kind].read_bytes().startswith(magic[kind]) for kind in kinds)
        table = list(csv.DictReader(io.StringIO((tmp_path / "out" / f"{figure.stem}.csv").read_text())))
        assert {line["model"] for line in table} == set(models)


def test_pads_are_drawn_against_their_number_as_far_as_a_context_reaches(tmp_path):
    empty = pd.DataFrame(columns=list(QUERY_COLUMNS))
    for model, shifts in (("short", (0, 5, 10, 40)), ("long", (0, 5, 10, 40, 80, 160))):
        rows = [
            make_row(
                probe="token-padding", condition=f"shift-{n}", x=float(n), value=0.5 - n / 1000, metric="recall@1",
                direction="t2i", scope="eligible", **({"delta": -n / 1000} if n else {}),
            )
            for n in shifts
        ]  # fmt: skip
        write_run(tmp_path / "runs" / model, make_run(model=model, probe="token-padding"), rows, empty)
    (drawn,) = build_report([tmp_path / "runs"], tmp_path / "out")
    assert (drawn.stem, drawn.axes[0]) == ("d-token-padding", "pads before the first two sentences")
    table = drawn.table.groupby("model")["x"].agg(list)
    assert table["short"] == [0, 5, 10, 40] and table["long"] == [0, 5, 10, 40, 80, 160]
    assert "Pads before the caption" in (tmp_path / "out" / "index.html").read_text()
    # A place's label is left out where it would touch the one before it: 5 beside 0, where there are 160.
    axes = padding_figure(drawn.table, ["short", "long"], *drawn.axes).axes[0]
    assert list(axes.get_xticks()) == [0, 10, 40, 80, 160]


def test_names_from_results_stay_text_everywhere(tmp_path):
    write_models(tmp_path / "results", HOSTILE)
    build_report([tmp_path / "results"], tmp_path / "out", look=SVG)
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
    assert board["T2I R@1"].is_monotonic_decreasing
    assert set(board["drop first"]) == {-10.0} and set(board["swap 1-4 low"]) == {-15.0}
    assert set(shown(board)["swap 1-4"]) == {"-10.0 (-15.0 to -5.0)"}
    again = pd.read_csv(io.StringIO(to_csv(board)))
    assert shown(again).equals(shown(board))
    numbers = [column for column in again if column not in ("data", "rank", "model", "protocol")]
    assert len(numbers) == 31 and all(again[column].dtype.kind in "if" for column in numbers)


def test_numbers_are_rounded_once(tmp_path):
    """To two or four digits, 4.5500002 would be 4.55, of which the nearest float is below it: 4.5."""
    write_models(tmp_path, "m")
    rows = all_rows(load_runs([tmp_path]))
    rows["delta_low"] = rows["delta_low"].where(rows["delta_low"].isna(), -0.045500002)
    board = leaderboard(rows)
    assert list(shown(board)["drop first"]) == ["-10.0 (-4.6 to -5.0)"]
    assert shown(pd.read_csv(io.StringIO(to_csv(board)))).equals(shown(board))
    changes = headline(rows, "padding", "t2i").dropna(subset=["delta_low"])
    changed = chart_rows(changes, "delta")
    assert changed and {line[-1].partition(" to ")[0] for line in changed} == {"-4.6"}
    assert {f"{line[7]:.1f}" for line in changed} == {"-4.6"}


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


def test_the_latex_table_can_be_pasted(tmp_path):
    for model in ("a_b & 50%\\x{y}", "longclip-b16"):
        write_models(tmp_path, model)
    board = leaderboard(all_rows(load_runs([tmp_path])))
    board["drop first"] = [-12.25, -3.5]
    text = to_latex(board, ["T2I R@1", "drop first", "padding change"])
    lines = text.splitlines()
    assert lines[1:5] == [r"\begin{tabular}{lrr}", r"\toprule", r"Model & T2I R@1 & Drop first \\", r"\midrule"]
    assert lines[-2:] == [r"\bottomrule", r"\end{tabular}"]
    assert any(line.startswith(r"a\_b \& 50\%\textbackslash{}x\{y\} & ") for line in lines)
    assert any(line.startswith("Long-CLIP B/16 & ") for line in lines)
    # The best of each column is bold, minus signs are set in mathematics, and lines have the columns of the heading.
    assert r"$\mathbf{-3.5}$ {\scriptsize($-15.0$ to $-5.0$)}" in text and "$-12.2$ {" in text
    assert lines[5].count(r"\mathbf") == 1 and not re.search(r"[^$\w{]-\d", "".join(lines[5:]))
    assert {line.count(" & ") for line in (lines[3], *lines[5:-2])} == {2}


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
    drawn = {d.stem: d.table for d in build_report([tmp_path], tmp_path / "out", look=SVG)}
    assert set(drawn) == {"d-needle-fillers-0", "d-attention-by-token", "d-attention-by-sentence"}
    assert drawn["d-needle-fillers-0"]["value"].tolist() == pytest.approx([90.0] * 3)
    assert drawn["d-needle-fillers-0"]["cut"].tolist() == [0.0, 0.0, 100.0]
    assert drawn["d-attention-by-sentence"]["tokens"].tolist() == pytest.approx([60.0, 40.0])
    # Positions that hardly any caption reaches are left out.
    assert drawn["d-attention-by-token"]["x"].tolist() == [1.0, 2.0]


def test_the_committed_leaderboards_come_out_of_the_committed_results_to_the_byte(tmp_path):
    folder = Path(__file__).parents[2] / "leaderboards"
    look = PAPER if THOROUGH else SVG
    build_report([folder / "results", folder / "ablation-scenes-2.csv"], tmp_path / "one", look=look)
    # Where these differ, leaderboards/README.md says how the results and the tables are made again.
    for made, committed in (("leaderboard", "scenes-2"), ("cards", "scenes-2-cards")):
        for suffix in (".csv", ".md"):
            assert (tmp_path / "one" / (made + suffix)).read_bytes() == (folder / (committed + suffix)).read_bytes()
    if not THOROUGH:  # of fewer results, two reports are compared in tests/cli
        return
    build_report([folder / "results", folder / "ablation-scenes-2.csv"], tmp_path / "two", look=look)
    for one in (tmp_path / "one").iterdir():
        assert one.read_bytes() == (tmp_path / "two" / one.name).read_bytes(), one.name


def test_a_site_has_a_page_per_model_and_data_set_that_link_to_each_other(tmp_path):
    for model in ("longclip-b16", HOSTILE):
        for data in ("docci", "d/e"):
            write_models(tmp_path / "results" / data[:1], model, data, data_fingerprint=data)
    build_report([tmp_path / "results"], tmp_path / "site", site=True, look=SVG)
    site = tmp_path / "site"
    pages = {str(path.relative_to(site)): path.read_text() for path in site.rglob("*.html")}
    assert len(pages) == 5 and {"index.html", "models/longclip-b16.html", "data/docci.html"} <= set(pages)
    for name, page in pages.items():
        markup = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
        links = {link for link in re.findall(r'href="([^"#]+)"', markup) if not link.startswith(("data:", "https:"))}
        assert links and all((site / name).parent.joinpath(unquote(link)).is_file() for link in links), name
        assert "<script>alert" not in page
    assert "Published, not measured here" in pages["data/docci.html"] and "71.5" in pages["data/docci.html"]
    facts = json.loads(re.search(r'id="facts">(.*?)</script>', pages["models/longclip-b16.html"], re.DOTALL)[1])
    assert {line["model"] for line in facts["board"]} == {"longclip-b16"} and len(facts["board"]) == 2
    assert "Does it rely on the first sentence?" in pages["models/longclip-b16.html"]
    assert (site / "figures" / "docci-drops.svg").is_file() and (site / "figures" / "leaderboard.tex").is_file()


def test_figures_follow_the_look_that_is_asked_for(tmp_path):
    write_models(tmp_path / "results", "longclip-b16", "docci")
    for name, look, dark in (
        ("plain", replace(SVG, titles=False), False),
        ("titled", SVG, True),
        ("talk", replace(SVG, style="talk", width="page"), False),
    ):
        build_report([tmp_path / "results"], tmp_path / name, look=look, dark=dark)
    texts = {name: (tmp_path / name / "docci-drops.svg").read_text() for name in ("plain", "titled", "talk")}
    assert "First sentence removed or moved" not in texts["plain"] and "First sentence removed" in texts["titled"]
    assert "docci, n = 10 captions, 95% intervals over queries" in texts["titled"]
    assert "published" in texts["plain"] and "Long-CLIP" in texts["plain"] and "in fourth place" in texts["plain"]
    assert "drop-first" not in texts["plain"]
    for name, size in (("titled", "8px"), ("talk", "14px")):
        assert set(re.findall(r"font-size: ([\d.]+px)", texts[name])) == {size}
    widths = [float(re.search(r'width="([\d.]+)pt"', texts[name])[1]) for name in ("titled", "talk")]
    assert widths[1] > 2 * widths[0]
    dark = (tmp_path / "titled" / "docci-drops-dark.svg").read_text()
    assert "#0d1117" in dark and "#0d1117" not in texts["titled"]
    assert not list((tmp_path / "plain").glob("*-dark*"))


def test_the_python_function_takes_what_the_command_takes(tmp_path):
    import clipbias

    write_models(tmp_path / "results", "a")
    look = {"style": "talk", "dark": True, "titles": False, "formats": ["png"]}
    page = clipbias.report(tmp_path / "results", tmp_path / "out", order=["a"], **look)
    made = {path.name for path in page.parent.iterdir()}
    assert page.name == "index.html" and any(name.endswith("-dark.png") for name in made)
    assert not any(name.endswith(".pdf") for name in made)
    site = clipbias.report(tmp_path / "results", tmp_path / "site", site=True, formats=["svg"])
    assert (site.parent / "models").is_dir() and (site.parent / "figures" / "leaderboard.csv").is_file()
    with pytest.raises(UserError, match="width 'poster': choose column or page"):
        clipbias.report(tmp_path / "results", tmp_path / "out", width="poster")
    with pytest.raises(UserError, match="format 'eps': choose png or svg or pdf"):
        clipbias.report(tmp_path / "results", tmp_path / "out", formats=["eps"])
