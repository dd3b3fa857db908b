"""The five numbers of a model's card, each against its definition worked by hand."""

from __future__ import annotations

import io
import json

import numpy as np
import pandas as pd
import pytest
from tests_support import make_row, make_run

from clipbias.cli.tables import records_of
from clipbias.names import for_json
from clipbias.report.load import all_rows
from clipbias.report.tables import leaderboard, shown, to_csv, to_latex, to_markdown
from clipbias.results.card import SCALARS, cards, wide_cards
from clipbias.results.folder import load_runs, run_folder, write_run
from clipbias.results.record import QUERY_COLUMNS
from clipbias.stats.trend import page


def write(out, probe, hits, rows, eligible=None):
    """A run whose T2I queries hit as ``hits`` {condition: [Q]} says."""
    lines = [
        [condition, "t2i", query, query, int(not hit), 0, 1, 0.5, 0.1, bool(eligible is None or eligible[query]), True]
        for condition, mine in hits.items()
        for query, hit in enumerate(mine)
    ]
    folder = run_folder(out, "mine", "scenes", probe)
    run = make_run(probe=probe, model="mine", data="scenes")
    write_run(folder, run, rows, pd.DataFrame(lines, columns=list(QUERY_COLUMNS)))


def test_the_scalars_are_their_definitions(tmp_path):
    generator = np.random.default_rng(1)
    hits = {f"pad-{n}": generator.random(200) < 0.9 - 0.12 * n for n in range(6)}
    rows = [make_row(probe="padding", condition=f"pad-{n}", x=float(n), order=n) for n in range(6)]
    write(tmp_path, "padding", hits, rows)
    full, dropped = generator.random(200) < 0.8, generator.random(200) < 0.3
    eligible = np.arange(200) % 4 > 0
    write(tmp_path, "drop-first", {"full": full, "drop-first": dropped}, [make_row(probe="drop-first")], eligible)
    swap = make_row(probe="swap-1-4", condition="swap-1-4", delta=-0.25, delta_low=-0.3, delta_high=-0.2)
    write(tmp_path, "swap-1-4", {}, [swap])
    plain = {"direction": "", "x": None}
    write(tmp_path, "needle", {}, [
        make_row(condition="fillers-0", metric="needle_half_depth", value=3.5, low=3.0, high=4.0, **plain)
    ])  # fmt: skip
    write(tmp_path, "attention", {}, [
        make_row(condition=c, metric="first_sentence_concentration", value=v, low=v, high=v, **plain)
        for c, v in (("layer-1", 9.0), ("all", 2.5))
    ])  # fmt: skip
    table = cards(load_runs([tmp_path])).set_index("scalar")
    assert list(table.index) == list(SCALARS)
    change = np.mean([hits[f"pad-{n}"] for n in range(1, 6)], axis=0) - hits["pad-0"]
    assert table.loc["padding change", "value"] == pytest.approx(100 * change.mean())
    # Queries are independent here, so a standard error can be worked out.
    width = 200 * 1.96 * change.std() / np.sqrt(200)
    assert table.loc["padding change", "high"] - table.loc["padding change", "low"] == pytest.approx(width, rel=0.15)
    ordered = np.column_stack([hits[f"pad-{n}"] for n in range(1, 6)])
    assert table.loc["padding change", "p"] == page(ordered.astype(float)).p < 1e-6
    expected = 100 * (1 - dropped[eligible].mean() / full[eligible].mean())
    assert table.loc["first-sentence reliance", "value"] == pytest.approx(expected)
    assert table.loc["first-sentence reliance", "low"] < expected < table.loc["first-sentence reliance", "high"]
    assert table.loc["swap drop", ["value", "low", "high"]].tolist() == pytest.approx([-25, -30, -20])
    assert table.loc["needle half-depth", "value"] == 3.5
    assert table.loc["attention concentration", "value"] == 2.5
    assert wide_cards(cards(load_runs([tmp_path]))).loc[0, "swap drop"] == "-25.0 (-30.0 to -20.0)"


@pytest.mark.parametrize(("depth", "text"), [(8.0, "8.0 or more (3.0 to 8.0)"), (7.9, "7.9 (3.0 to 8.0)")])
def test_a_half_depth_at_the_last_place_means_that_or_more(tmp_path, depth, text):
    plain = {"condition": "fillers-0", "direction": ""}
    write(tmp_path, "needle", {}, [
        *(make_row(metric="needle_accuracy", x=float(k), **plain) for k in range(1, 9)),
        make_row(metric="needle_half_depth", x=None, value=depth, low=3.0, high=8.0, **plain),
    ])  # fmt: skip
    assert wide_cards(cards(load_runs([tmp_path]))).loc[0, "needle half-depth"] == text


def test_a_model_that_finds_nothing_has_no_reliance(tmp_path):
    nothing = np.zeros(9, dtype=bool)
    write(tmp_path, "drop-first", {"full": nothing, "drop-first": nothing}, [make_row(probe="drop-first")])
    assert cards(load_runs([tmp_path])).empty
    assert list(wide_cards(cards(load_runs([tmp_path]))).columns) == ["data", "model", *SCALARS]


def test_an_open_end_of_an_interval_is_infinite_in_csv_null_in_json_and_open_for_people(tmp_path):
    """Three queries, of which one is found with the first sentence: that none is cannot be excluded."""
    hits = {"full": [True, False, False], "drop-first": [False, True, False]}
    write(tmp_path, "drop-first", hits, [make_row(condition="full", scope="all")])
    table = cards(load_runs([tmp_path]))
    read = pd.read_csv(io.StringIO(to_csv(table)))
    assert read["low"].dtype == np.float64 and read["low"].tolist() == [-np.inf] == table["low"].tolist()
    assert np.genfromtxt(io.StringIO(to_csv(table)), delimiter=",", skip_header=1)[4] == -np.inf
    assert json.loads(for_json(records_of(table)))[0]["low"] is None
    assert wide_cards(table)["first-sentence reliance"].tolist() == [f"0.0 (open to {table['high'][0]:.1f})"]
    board = leaderboard(all_rows(load_runs([tmp_path])), scalars=table)
    assert "| 0.0 (open to " in to_markdown(shown(board))
    assert r"{\scriptsize(open to $" in to_latex(board, ["T2I R@1", "first-sentence reliance"])


def test_a_loss_at_the_first_padding_sentence_is_a_change_without_a_trend(tmp_path):
    hits = {f"pad-{n}": np.arange(400) < (320 if n == 0 else 270) for n in range(6)}
    write(tmp_path, "padding", hits, [make_row(probe="padding", condition=c, x=float(c[-1])) for c in hits])
    (line,) = cards(load_runs([tmp_path])).itertuples()
    assert line.value == -12.5 and line.high < -9 and line.p is None
    assert wide_cards(cards(load_runs([tmp_path]))).loc[0, "padding change"].startswith("-12.5 (-16.")
