"""The whole report: figures, their tables, the leaderboard and the page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from clipbias.errors import CheckFailed
from clipbias.files import below, write_text
from clipbias.names import file_name
from clipbias.report.display import condition_name, ordered
from clipbias.report.examples import PER_PROBE, find_examples
from clipbias.report.figures import (
    ablation_figure,
    bars_figure,
    curve_figure,
    curve_rows,
    headline,
    layer_rows,
    panels_figure,
    sentence_rows,
)
from clipbias.report.load import all_rows, published_drops, read_ablation
from clipbias.report.page.build import build_page
from clipbias.report.style import Drawn, save_figure
from clipbias.report.tables import leaderboard, to_csv, to_latex, to_markdown
from clipbias.results.card import cards, wide_cards
from clipbias.results.folder import load_runs
from clipbias.results.ranks import shared_ranks

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def build_report(
    results: Sequence[Path], out: Path, order: Sequence[str] = (), examples: int = PER_PROBE
) -> list[Drawn]:
    """Write the report of every run below ``results`` into ``out``.

    Args:
        results: folders of runs, or ablation tables.
        out: the report's folder.
        order: models that come first, in this order.
        examples: captions per probe in the page's browser.

    Returns:
        The figures that there was something to draw for.

    Raises:
        CheckFailed: the report is there, and damaged runs were left out of it; names each.
        UserError: no results that can be read, a model in ``order`` that is not there, or a folder that cannot be
            written.
    """
    damaged: list[str] = []
    runs = load_runs(results, damaged)
    rows = all_rows(runs)
    models = ordered(rows["model"].unique(), order)
    drawn = []
    for data in sorted(rows["data"].unique()):
        drawn += _data_figures(rows[rows["data"] == data], data, models, out)
    drawn += _ablations(results, out)
    scalars = cards(runs)
    board = leaderboard(rows, shared_ranks(runs), scalars)
    written = {
        "leaderboard.csv": to_csv(board),
        "leaderboard.md": to_markdown(board),
        "leaderboard.tex": to_latex(board.drop(columns=["protocol"], errors="ignore")),
        "cards.csv": to_csv(scalars),
        "cards.md": to_markdown(wide_cards(scalars)),
    }
    for name, text in written.items():
        write_text(out / name, text)
    downloads = [(n, _KINDS[n.rpartition(".")[2]], text) for n, text in written.items() if not n.endswith("md")]
    page = build_page(runs, drawn, scalars, find_examples(runs, examples), models, out, downloads)
    write_text(out / "index.html", page)
    if damaged:
        listed = "".join(f"\n  {line}" for line in damaged)
        raise CheckFailed(f"the report is in {out}; {len(damaged):,} damaged runs are left out of it:{listed}")
    return drawn


_KINDS = {"csv": "text/csv", "tex": "application/x-tex"}
_QUERIES = "bands are 95% intervals over queries"


def _data_figures(rows: pd.DataFrame, data: str, models: list[str], out: Path) -> list[Drawn]:
    """The figures of one data set."""
    return [
        *_retrieval_figures(rows, data, models, out),
        *_position_figures(rows, data, models, out),
        *_needle_figures(rows, data, models, out),
    ]


def _keep(figure: Figure, one: Drawn, out: Path) -> Drawn:
    """Write a figure and its numbers below ``out``."""
    stem = f"{file_name(one.data)}-{one.stem}"
    save_figure(figure, below(out, stem))
    write_text(below(out, f"{stem}.csv"), to_csv(one.table))
    n = f", n = {int(one.table['n'].max()):,}" if "n" in one.table and len(one.table) else ""
    return Drawn(
        stem, f"{one.words} Data: {one.data}{n}.", one.table, one.kind, one.data, one.words, one.axes, one.published
    )


def _retrieval_figures(rows: pd.DataFrame, data: str, models: list[str], out: Path) -> list[Drawn]:
    drawn = []
    padding = headline(rows, "padding", "t2i")
    if len(padding):
        words = (
            f"Text-to-image R@1 against the number of padding sentences before a caption's first two; {_QUERIES} "
            "(paper, Figure 2)."
        )
        axes = ("padding sentences before the first two", "T2I R@1, %")
        one = Drawn("figure2-padding", "", padding, "padding", data, words, axes)
        drawn.append(_keep(curve_figure(padding, models, *axes), one, out))
    swap = headline(rows, "swap", "i2t")
    if len(swap):
        words = (
            "Image-to-text R@1 with a caption's first two sentences, the two swapped, and the first alone; bars are "
            "95% intervals over queries (paper, Figure 3)."
        )
        one = Drawn("figure3-swap", "", swap, "swap", data, words, ("", "I2T R@1, %"))
        drawn.append(_keep(bars_figure(swap, models, "value", one.axes[1]), one, out))
    drops = pd.concat([headline(rows, probe, "t2i") for probe in ("drop-first", "swap-1-4")])
    drops = drops[drops["delta"].notna()]
    if len(drops):
        words = (
            "Change of text-to-image R@1 when the first sentence is removed, and when it moves to fourth place; bars "
            "are 95% intervals over queries, hollow diamonds published numbers."
        )
        label, theirs = "change of T2I R@1, points", published_drops(data)
        one = Drawn("drops", "", drops, "drops", data, words, ("", label), theirs)
        drawn.append(_keep(bars_figure(drops, models, "delta", label, theirs), one, out))
    return drawn


def _position_figures(rows: pd.DataFrame, data: str, models: list[str], out: Path) -> list[Drawn]:
    drawn = []
    for metric, kind, label, words in _ATTENTION:
        curve = curve_rows(rows, metric, "all")
        if len(curve):
            axes = (label, f"share of {metric.split('_')[0]}, %")
            figure = curve_figure(curve, models, *axes, marks=metric != "attention_by_token")
            drawn.append(_keep(figure, Drawn(kind, "", curve, kind, data, words, axes), out))
    for metric, kind, words in _BY_SENTENCE:
        curve = sentence_rows(rows, metric)
        if len(curve):
            axes = ("sentence", f"share of {metric.split('_')[0]}, %")
            ticks = list(range(1, int(curve["x"].max()) + 1, 2))
            figure = panels_figure(curve, models, "sentences", "{} sentences", *axes, ticks)
            drawn.append(_keep(figure, Drawn(kind, "", curve, kind, data, words, axes), out))
    layers = layer_rows(rows, "attention_by_tenth")
    if len(layers):
        words = f"Attention of the pooled token by tenth of the caption, for each layer; mean over heads, {_QUERIES}."
        axes = ("tenth of the caption", "share of attention, %")
        one = Drawn("attention-by-layer", "", layers, "attention-by-layer", data, words, axes)
        figure = panels_figure(layers, models, "layer", "layer {}", *axes, [1, 5, 10])
        drawn.append(_keep(figure, one, out))
    return drawn


def _needle_figures(rows: pd.DataFrame, data: str, models: list[str], out: Path) -> list[Drawn]:
    drawn = []
    for condition in sorted(rows[rows["metric"] == "needle_accuracy"]["condition"].unique()):
        needle = _needle(rows, condition)
        words = (
            f"Position sensitivity ({condition_name(condition)}): how often the right one of two captions that differ "
            f"in one fact is nearer to the image, by the sentence that states it. Chance is 50%; {_QUERIES}. "
            "Squares: the context cuts the fact off in at least half of the captions."
        )
        axes = ("sentence that states the fact", "right caption preferred, %")
        one = Drawn(f"needle-{file_name(condition)}", "", needle, f"needle-{condition}", data, words, axes)
        drawn.append(_keep(curve_figure(needle, models, *axes, level=50.0), one, out))
    return drawn


def _needle(rows: pd.DataFrame, condition: str) -> pd.DataFrame:
    """Needle accuracy by sentence, with the share of captions in which the context ends before it (``cut``)."""
    keys = ["data", "model", "x"]
    cut = curve_rows(rows, "needle_cut", condition).set_index(keys)["value"].rename("cut")
    return curve_rows(rows, "needle_accuracy", condition).join(cut, on=keys).fillna({"cut": 0.0})


def _ablations(results: Sequence[Path], out: Path) -> list[Drawn]:
    """The tables that `clipbias finetune ablation` left among the results, one figure each."""
    drawn = []
    for path in sorted(p for r in results for p in ([r] if r.is_file() else r.rglob("ablation*.csv"))):
        if path.stem.endswith("-paired") or not path.stem.startswith("ablation"):
            continue
        table = read_ablation(path)
        save_figure(ablation_figure(table), out / path.stem)
        shown = table.assign(values=[" ".join(f"{v:+.1f}" for v in values) for values in table["values"]])
        if path.resolve() != (out / path.name).resolve():
            write_text(out / path.name, to_csv(shown))
        words = "Ablations between Long-CLIP's recipe and DeBias-CLIP's: a dot per training seed, a bar for their mean."
        drawn.append(Drawn(path.stem, words, shown, "ablation", "", words))
    return drawn


_ATTENTION = (
    (
        "attention_by_token",
        "attention-by-token",
        "text token",
        "Attention of the pooled token by text token, mean over layers, heads and captions; start and end tokens "
        f"apart, {_QUERIES}.",
    ),
)
_BY_SENTENCE = (
    (
        "influence_by_sentence",
        "influence-by-sentence",
        "Share of absolute influence on the similarity with the caption's image by sentence, apart for captions "
        "of each number of sentences; dotted in the static figure: the share of tokens. Influence: how much leaving "
        f"out one token changes the cosine; {_QUERIES}.",
    ),
    (
        "attention_by_sentence",
        "attention-by-sentence",
        "Attention of the pooled token by sentence, apart for captions of each number of sentences; dotted in the "
        f"static figure: the share of tokens. Mean over layers, heads and captions; {_QUERIES}.",
    ),
)
