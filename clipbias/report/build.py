"""The whole report: figures, their tables, the leaderboard and the page."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from clipbias.files import write_text
from clipbias.names import file_name
from clipbias.report.examples import Example, find_examples
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
from clipbias.report.load import all_rows, model_order, published_drops, read_ablation
from clipbias.report.style import save_figure
from clipbias.report.tables import leaderboard, to_csv, to_latex, to_markdown
from clipbias.results.card import cards, wide_cards
from clipbias.results.folder import Finished, load_runs
from clipbias.results.ranks import shared_ranks

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Drawn:
    """One figure of the report: file stem, caption, and the table it was drawn from."""

    stem: str
    caption: str
    table: pd.DataFrame


def build_report(results: Sequence[Path], out: Path) -> list[Drawn]:
    """Write the report of every run below ``results`` into ``out``.

    Returns:
        The figures that there was something to draw for.

    Raises:
        UserError: no results, damaged ones, or a folder that cannot be written.
    """
    runs = load_runs(results)
    rows = all_rows(runs)
    models = model_order(rows)
    drawn = []
    for data in sorted(rows["data"].unique()):
        drawn += _data_figures(rows[rows["data"] == data], data, models, out)
    drawn += _ablations(results, out)
    scalars = cards(runs)
    board = leaderboard(rows, shared_ranks(runs), scalars)
    write_text(out / "leaderboard.csv", to_csv(board))
    write_text(out / "leaderboard.md", to_markdown(board))
    write_text(out / "leaderboard.tex", to_latex(board.drop(columns=["protocol"], errors="ignore")))
    write_text(out / "cards.csv", to_csv(scalars))
    write_text(out / "cards.md", to_markdown(wide_cards(scalars)))
    write_text(out / "index.html", _page(drawn, board, wide_cards(scalars), find_examples(runs), runs, out))
    return drawn


def _data_figures(rows: pd.DataFrame, data: str, models: list[str], out: Path) -> list[Drawn]:
    drawn = []

    def keep(stem: str, caption: str, table: pd.DataFrame, figure: Figure) -> None:
        stem = file_name(stem)  # data sets and conditions are named by files of anybody
        save_figure(figure, out / stem)
        write_text(out / f"{stem}.csv", to_csv(table))
        drawn.append(Drawn(stem, caption, table))

    padding = headline(rows, "padding", "t2i")
    if len(padding):
        caption = (
            f"Text-to-image R@1 on {data} against the number of padding sentences, with 95% bands (paper, Figure 2)."
        )
        labels = ("padding sentences before the caption's first two", "T2I R@1, %")
        keep(f"{data}-figure2-padding", caption, padding, curve_figure(padding, models, *labels))
    swap = headline(rows, "swap", "i2t")
    if len(swap):
        caption = f"Image-to-text R@1 on {data}: first two sentences, swapped, and the first alone (paper, Figure 3)."
        keep(f"{data}-figure3-swap", caption, swap, bars_figure(swap, models, "value", "I2T R@1, %"))
    drops = pd.concat([headline(rows, probe, "t2i") for probe in ("drop-first", "swap-1-4")])
    drops = drops[drops["delta"].notna()]
    if len(drops):
        caption = (
            f"Change of text-to-image R@1 on {data} when the first sentence goes, and when it moves to fourth place."
        )
        label, theirs = "change of T2I R@1, points", published_drops(data)
        keep(f"{data}-drops", caption, drops, bars_figure(drops, models, "delta", label, theirs))
    for metric, stem, label, caption in _ATTENTION:
        curve = curve_rows(rows, metric, "all")
        if len(curve):
            figure = curve_figure(
                curve, models, label, f"share of {metric.split('_')[0]}, %", marks=metric != "attention_by_token"
            )
            keep(f"{data}-{stem}", caption.format(data=data), curve, figure)
    for metric, stem, caption in _BY_SENTENCE:
        curve = sentence_rows(rows, metric)
        if len(curve):
            label = f"share of {metric.split('_')[0]}, %"
            ticks = list(range(1, int(curve["x"].max()) + 1, 2))
            figure = panels_figure(curve, models, "sentences", "{} sentences", "sentence", label, ticks)
            keep(f"{data}-{stem}", caption.format(data=data), curve, figure)
    layers = layer_rows(rows, "attention_by_tenth")
    if len(layers):
        caption = f"Attention of the pooled token on {data} by tenth of the caption, for each layer; mean over heads."
        figure = panels_figure(
            layers, models, "layer", "layer {}", "tenth of the caption", "share of attention, %", [1, 5, 10]
        )
        keep(f"{data}-attention-by-layer", caption, layers, figure)
    for condition in sorted(rows[rows["metric"] == "needle_accuracy"]["condition"].unique()):
        needle = _needle(rows, condition)
        caption = (
            f"Position sensitivity on {data} ({condition}): how often the right one of two captions that differ in one "
            "fact is nearer to the image, by the sentence that states it. Chance is 50%. Squares: the context cuts the "
            "fact off in at least half of the captions, and the two are the same to the model."
        )
        labels = ("sentence that states the fact", "right caption preferred, %")
        keep(f"{data}-needle-{condition}", caption, needle, curve_figure(needle, models, *labels, level=50.0))
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
        drawn.append(
            Drawn(path.stem, "Steps between Long-CLIP's recipe and DeBias-CLIP's: a dot a training seed.", shown)
        )
    return drawn


_ATTENTION = (
    (
        "attention_by_token",
        "attention-by-token",
        "text token",
        "Attention of the pooled token on {data} by text token, mean over layers, heads and captions; "
        "start and end tokens apart.",
    ),
)

_BY_SENTENCE = (
    (
        "influence_by_sentence",
        "influence-by-sentence",
        "Share of absolute influence on the similarity with the caption's image on {data} by sentence, apart for "
        "captions of each number of sentences; dotted: the share of tokens. Influence: how much leaving out one "
        "token changes the cosine.",
    ),
    (
        "attention_by_sentence",
        "attention-by-sentence",
        "Attention of the pooled token on {data} by sentence, apart for captions of each number of sentences; dotted: "
        "the share of tokens. Mean over layers, heads and captions.",
    ),
)


def _page(
    drawn: list[Drawn],
    board: pd.DataFrame,
    scalars: pd.DataFrame,
    examples: list[Example],
    runs: list[Finished],
    out: Path,
) -> str:
    from jinja2 import Environment, PackageLoader

    environment = Environment(loader=PackageLoader("clipbias.report", "templates"), autoescape=True)
    figures = [
        {
            "caption": d.caption,
            "image": base64.b64encode((out / f"{d.stem}.svg").read_bytes()).decode(),
            "table": d.table.round(1).astype(object).where(d.table.notna(), "").to_dict("split"),
        }
        for d in drawn
    ]
    return environment.get_template("index.html.jinja").render(
        figures=figures,
        board=board.astype(object).where(board.notna(), "").to_dict("split"),
        scalars=scalars.to_dict("split"),
        examples=[(title, list(part)) for title, part in groupby(examples, key=lambda e: f"{e.title}: {e.condition}")],
        cards=[asdict(one.run) for one in runs],
    )
