"""The tables of the README are those of the committed results and ablation, digit by digit."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from clipbias.finetune.measures import MEASURES
from clipbias.results.folder import load_runs

ROOT = Path(__file__).parents[2]
COLUMNS = {
    "full captions": ("drop-first", "full"),
    "first sentence removed": ("drop-first", "drop-first"),
    "first sentence fourth": ("swap-1-4", "swap-1-4"),
    "five padding sentences": ("padding", "pad-5"),
    "80 pads": ("token-padding", "shift-80"),
}


def table_lines(text, start):
    """The cells of the one Markdown table whose head begins with ``start``."""
    (found,) = re.findall(rf"^\| {re.escape(start)}.*(?:\n\|.*)+", text, re.MULTILINE)
    head, _, *lines = ([cell.strip() for cell in line.strip("| ").split("|")] for line in found.split("\n"))
    return head, lines


@pytest.fixture(scope="module")
def readme():
    return (ROOT / "README.md").read_text("utf-8")


def test_the_readmes_models_have_the_numbers_of_the_committed_results(readme):
    rows = {
        (one.run.model, row.probe, row.condition): row
        for one in load_runs([ROOT / "leaderboards" / "results"])
        for row in one.rows
        if (row.direction, row.metric, row.scope) == ("t2i", "recall@1", "eligible")
    }
    head, lines = table_lines(readme, "1,000 test scenes")
    assert head[1:] == list(COLUMNS) and len(lines) == 5
    for model, *cells in lines:
        for title, cell in zip(head[1:], cells, strict=True):
            row = rows.get((model, *COLUMNS[title]))
            if row is None:  # 80 pads and a text do not fit into 77 positions
                assert (cell, model, title) == ("-", "nano-clip", "80 pads")
            elif title == "full captions":
                assert cell == f"{100 * row.value:.1f} ({100 * row.low:.1f} to {100 * row.high:.1f})"
            else:
                ends = f"{100 * row.delta_low:+.1f} to {100 * row.delta_high:+.1f}"
                assert cell == f"{100 * row.delta:+.1f} ({ends})"


def test_the_readmes_contrasts_have_the_numbers_of_the_committed_ablation(readme):
    with (ROOT / "leaderboards" / "ablation-scenes-2-paired.csv").open(encoding="utf-8", newline="") as file:
        known = {(line["recipe"], line["measure"]): line for line in csv.DictReader(file)}
    _, lines = table_lines(readme, "over 8 seeds")
    assert len(lines) >= 6
    titles = {measure.title for measure in MEASURES}
    for words, measure, cell, seeds in lines:
        assert measure in titles
        line = known[words.replace(" minus ", " against "), measure]
        assert cell == f"{float(line['difference']):+.1f} ({float(line['low']):+.1f} to {float(line['high']):+.1f})"
        values = [float(one.lstrip("'")) for one in line["values"].split()]
        assert seeds == f"{sum(one > 0 for one in values)} of {len(values)} above 0"
