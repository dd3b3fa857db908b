"""The whole report: figures, their tables, the leaderboard and the page."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from clipbias.errors import CheckFailed
from clipbias.files import folder_lock, write_text
from clipbias.report.ablations import ablation_figures
from clipbias.report.boards import board_texts
from clipbias.report.display import ordered
from clipbias.report.draw import data_figures
from clipbias.report.examples import PER_PROBE, Datasets, find_examples
from clipbias.report.heat import find_heat
from clipbias.report.load import all_rows
from clipbias.report.material import Material
from clipbias.report.page.board import board_lines
from clipbias.report.page.build import build_page
from clipbias.report.site import write_site
from clipbias.report.steps import step_figures
from clipbias.report.style import PAPER, Drawn, Look
from clipbias.report.tables import leaderboard, to_latex
from clipbias.results.card import cards
from clipbias.results.folder import Finished, load_runs
from clipbias.results.ranks import shared_ranks


def build_report(
    results: Sequence[Path],
    out: Path,
    order: Sequence[str] = (),
    examples: int = PER_PROBE,
    look: Look = PAPER,
    dark: bool = False,
    site: bool = False,
) -> list[Drawn]:
    """Write the report of every run below ``results`` into ``out``.

    Args:
        results: folders of runs, or ablation tables.
        out: the report's folder.
        order: models that come first, in this order.
        examples: captions per probe in the page's browser.
        look: how the static figures are set.
        dark: each also as ``STEM-dark``.
        site: also a page per model and per data set (`write_site`); figures and tables go into ``figures/``.

    Returns:
        The figures that there was something to draw for.

    Raises:
        CheckFailed: the report is there, and damaged runs were left out of it; names each.
        UserError: no results that can be read, a model in ``order`` that is not there, or a folder that cannot be
            written.
    """
    damaged: list[str] = []
    runs = load_runs(results, damaged)
    looks = [look, replace(look, dark=True)] if dark else [look]
    with folder_lock(out, wait=_PATIENCE) if runs else nullcontext():
        material = gather(runs, results, out / "figures" if site else out, order, examples, looks, damaged)
        if site:
            write_site(material, out)
        else:
            write_text(out / "index.html", build_page(material))
    if damaged:
        listed = "".join(f"\n  {line}" for line in damaged)
        raise CheckFailed(f"the report is in {out}; {len(damaged):,} damaged files are left out of it:{listed}")
    return list(material.drawn)


def gather(
    runs: Sequence[Finished],
    results: Sequence[Path],
    out: Path,
    order: Sequence[str],
    examples: int,
    looks: Sequence[Look],
    damaged: list[str],
) -> Material:
    """Draw the figures and write them and the tables into ``out``; what pages are made from.

    Lines on tables that are damaged are added to ``damaged``.
    """
    rows = all_rows(runs)
    models = ordered(rows["model"].unique(), order)
    drawn: list[Drawn] = []
    scalars = cards(runs)
    for data in sorted(rows["data"].unique()):
        drawn += data_figures(rows[rows["data"] == data], data, models, scalars, out, looks)
        drawn += step_figures(rows[rows["data"] == data], data, out, looks)
    drawn += ablation_figures(results, out, looks, damaged)
    board = leaderboard(rows, shared_ranks(runs), scalars)
    written = {"leaderboard.tex": to_latex(board), **board_texts(board, scalars, "leaderboard", "cards")}
    for name, text in written.items():
        write_text(out / name, text)
    downloads = [(name, kind, written[name]) for name, kind in _DOWNLOADS.items()]
    datasets: Datasets = {}
    seen, heat = find_examples(runs, examples, datasets), find_heat(runs, datasets)
    lines = board_lines(rows, runs, scalars, models)
    return Material(runs, lines, drawn, seen, heat, models, out, downloads)


_PATIENCE = 60.0
"""Seconds to wait for another process that writes the same report."""
_DOWNLOADS = {"leaderboard.csv": "text/csv", "leaderboard.tex": "application/x-tex", "cards.csv": "text/csv"}
"""Tables that the page offers."""
