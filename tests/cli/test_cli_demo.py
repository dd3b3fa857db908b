"""The demo's closing words follow from its runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests_support import make_row

from clipbias.cli.demo import summary, verdicts
from clipbias.results.folder import load_runs, read_queries
from clipbias.results.queries import top1

CASES = (("drop-first", "full"), ("drop-first", "drop-first"), ("first-only", "first-only"), ("swap-1-4", "swap-1-4"))
COMMITTED = Path(__file__).parents[2] / "leaderboards" / "results"


def test_the_summary_prints_every_row():
    rows = []
    for probe, condition in (*CASES, ("padding", "pad-1"), ("padding", "pad-5")):
        change = {} if condition == "full" else {"delta": -0.1, "delta_low": -0.12, "delta_high": -0.08}
        rows.append(make_row(probe=probe, condition=condition, **change))
    pads = make_row(probe="token-padding", condition="shift-80", delta=-0.1, delta_low=-0.12, delta_high=-0.08)
    text = summary({"nano-longclip": rows, "nano-debias": [*rows, pads]})
    assert text.count("nano-debias     -10.0 points (-12.0 to -8.0)") == 5
    assert text.count("nano-longclip   -10.0 points (-12.0 to -8.0)") == 4
    assert text.count("nano-longclip   50.0 (40.0 to 60.0)") == 2


@pytest.fixture(scope="module")
def committed():
    runs = {(one.run.model, one.run.probe): one.folder for one in load_runs([COMMITTED])}
    assert len(runs) > 30
    return runs


def test_the_verdict_is_that_of_the_paired_difference(committed):
    (*_, line) = verdicts(committed)
    means = {}
    for model in ("nano-longclip", "nano-debias"):
        table = read_queries(committed[model, "token-padding"])
        padded = top1(table[table["eligible"]], "shift-80", "t2i")
        means[model] = 100 * (padded - top1(table, "shift-0", "t2i").loc[padded.index]).mean()
    apart = means["nano-debias"] - means["nano-longclip"]
    assert apart > 5
    assert f"Behind 80 pads, nano-debias loses {apart:.1f} points less than nano-longclip" in line


def test_the_other_way_round_it_loses_more_and_itself_no_difference_is_shown(committed):
    (*_, line) = verdicts(committed, "nano-debias", "nano-longclip")
    assert "nano-longclip loses" in line and "more than nano-debias" in line
    assert all("no difference" in line for line in verdicts(committed, "nano-drop", "nano-drop"))
