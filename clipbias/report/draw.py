"""Every figure of a report: drawn, titled, and written with the numbers that it was drawn from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from clipbias.files import below, write_text
from clipbias.names import file_name
from clipbias.report.display import condition_name
from clipbias.report.figures import (
    bars_figure,
    curve_figure,
    padding_figure,
    panels_figure,
    scatter_figure,
)
from clipbias.report.load import published_drops
from clipbias.report.select import curve_rows, headline, layer_rows, sentence_rows
from clipbias.report.style import Drawn, Look, save_figure, titled
from clipbias.report.tables import to_csv

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Draw = Callable[..., "Figure"]
"""A figure, drawn once its ``look`` is given."""


def data_figures(
    rows: pd.DataFrame, data: str, models: list[str], scalars: pd.DataFrame, out: Path, looks: Sequence[Look]
) -> list[Drawn]:
    """The figures of one data set, written below ``out``; in the first look, and ``STEM-dark`` in a dark one.

    Args:
        rows: of that data set, as `all_rows` gives them.
        data: its name.
        models: the order of the models.
        scalars: as `cards` gives them.
        out: the report's folder.
        looks: how figures are set.
    """
    keep = partial(kept, out=out, looks=looks)
    return [
        *_retrieval_figures(rows, data, models, keep),
        *_reliance(rows, data, models, scalars, keep),
        *_position_figures(rows, data, models, keep),
        *_needle_figures(rows, data, models, keep),
    ]


Keep = Callable[[Draw, Drawn], Drawn]


def kept(draw: Draw, one: Drawn, out: Path, looks: Sequence[Look]) -> Drawn:
    """Write a figure in every look, and its numbers, below ``out``."""
    stem = f"{file_name(one.data)}-{one.stem}" if one.data else one.stem
    for look in looks:
        figure = draw(look=look)
        titled(figure, look, one.title, one.told)
        save_figure(figure, below(out, stem + ("-dark" if look.dark else "")), look)
    write_text(below(out, f"{stem}.csv"), to_csv(one.table.round(4)))
    return replace(one, stem=stem, caption=f"{one.words} {one.told[:1].upper()}{one.told[1:]}.")


def _retrieval_figures(rows: pd.DataFrame, data: str, models: list[str], keep: Keep) -> list[Drawn]:
    drawn = []
    for stem, kind, title, axis, what in _PADDINGS:
        padding = headline(rows, kind, "t2i")
        if len(padding):
            words = f"Text-to-image R@1 against the number of {what}."
            axes = (axis, "T2I R@1, %")
            one = Drawn(stem, "", padding, kind, data, words, axes, title=title)
            drawn.append(keep(partial(padding_figure, padding, models, *axes), one))
    swap = headline(rows, "swap", "i2t")
    if len(swap):
        words = (
            "Image-to-text R@1 with a caption's first two sentences, the two swapped, and the first alone "
            "(paper, Figure 3)."
        )
        title = "The first two sentences, swapped, and the first alone"
        one = Drawn("figure3-swap", "", swap, "swap", data, words, ("", "I2T R@1, %"), title=title, unit="images")
        drawn.append(keep(partial(bars_figure, swap, models, "value", one.axes[1]), one))
    drops = pd.concat([headline(rows, probe, "t2i") for probe in ("drop-first", "swap-1-4")])
    drops = drops[drops["delta"].notna()]
    if len(drops):
        theirs = published_drops(data)
        hollow = " Hollow diamonds are published numbers." if len(theirs) else ""
        words = f"Change of text-to-image R@1 when the first sentence is removed, and in fourth place.{hollow}"
        label, title = "change of T2I R@1, points", "First sentence removed or moved"
        one = Drawn("drops", "", drops, "drops", data, words, ("", label), theirs, title)
        drawn.append(keep(partial(bars_figure, drops, models, "delta", label, theirs), one))
    return drawn


_PADDINGS = (
    ("figure2-padding", "padding", "Padding before the caption",
     "padding sentences before the first two", "padding sentences before a caption's first two (paper, Figure 2)"),
    ("token-padding", "token-padding", "Pads before the caption",
     "pads before the first two sentences",
     "pads before a caption's first two sentences (the form of padding that DeBias-CLIP is trained with)"),
)  # fmt: skip


def _reliance(rows: pd.DataFrame, data: str, models: list[str], scalars: pd.DataFrame, keep: Keep) -> list[Drawn]:
    """Recall on whole captions against the share of it that rests on the first sentence."""
    chosen = rows[
        (rows["probe"] == "drop-first") & (rows["condition"] == "full") & (rows["direction"] == "t2i")
        & (rows["metric"] == "recall@1") & (rows["scope"] == "all")
    ].set_index("model")  # fmt: skip
    across = (100 * chosen[["value", "low", "high"]].astype(float)).set_axis(["x", "x_low", "x_high"], axis=1)
    mine = scalars[(scalars["data"] == data) & (scalars["scalar"] == "first-sentence reliance")]
    up = mine.set_index("model")[["value", "low", "high"]].astype(float)
    table = across.assign(n=chosen["n"]).join(up, how="inner").reset_index()
    if table.empty:
        return []
    words = "Recall on whole captions against the share of it that is lost without the first sentence."
    axes = ("T2I R@1 on whole captions, %", "reliance, % of R@1 lost")
    title = "Recall against reliance on the first sentence"
    one = Drawn("reliance", "", table, "reliance", data, words, axes, title=title)
    return [keep(partial(scatter_figure, table, models, *axes), one)]


def _position_figures(rows: pd.DataFrame, data: str, models: list[str], keep: Keep) -> list[Drawn]:
    drawn = []
    curve = curve_rows(rows, "attention_by_token", "all")
    if len(curve):
        words = (
            "Attention of the pooled token by text token, mean over layers, heads and captions; start and end tokens "
            "are left out."
        )
        kind, axes = "attention-by-token", ("text token", "share of attention, %")
        one = Drawn(kind, "", curve, kind, data, words, axes, title="Attention by token")
        drawn.append(keep(partial(curve_figure, curve, models, *axes, marks=False), one))
    for metric, words in _BY_SENTENCE.items():
        curve = sentence_rows(rows, metric)
        if len(curve):
            what = metric.split("_")[0]
            kind, axes = f"{what}-by-sentence", ("sentence", f"share of {what}, %")
            ticks = list(range(1, int(curve["x"].max()) + 1, 2))
            one = Drawn(kind, "", curve, kind, data, words, axes, title=f"{what.capitalize()} by sentence")
            shape = ("sentences", "{} sentences", *axes, ticks)
            drawn.append(keep(partial(panels_figure, curve, models, *shape), one))
    layers = layer_rows(rows, "attention_by_tenth")
    if len(layers):
        words = "Attention of the pooled token by tenth of the caption, for each layer; mean over heads."
        kind, axes = "attention-by-layer", ("tenth of the caption", "share of attention, %")
        one = Drawn(kind, "", layers, kind, data, words, axes, title="Attention by layer")
        drawn.append(keep(partial(panels_figure, layers, models, "layer", "layer {}", *axes, [1, 5, 10]), one))
    return drawn


_BY_SENTENCE = {
    "influence_by_sentence": "Share of absolute influence on the similarity with the caption's image by sentence, for "
    "captions of each number of sentences; dotted in the static figure: the share of tokens. Influence: how much "
    "leaving out one token changes the cosine.",
    "attention_by_sentence": "Attention of the pooled token by sentence, for captions of each number of sentences; "
    "dotted in the static figure: the share of tokens. Mean over layers, heads and captions.",
}


def _needle_figures(rows: pd.DataFrame, data: str, models: list[str], keep: Keep) -> list[Drawn]:
    drawn = []
    for condition in sorted(rows[rows["metric"] == "needle_accuracy"]["condition"].unique()):
        needle = _needle(rows, condition)
        cut = " Squares: the context cuts the fact off in at least half of the captions."
        words = (
            f"Position sensitivity ({condition_name(condition)}): how often the right one of two captions that differ "
            "in one fact is nearer to the image, by the sentence that states it. Dotted: chance, 50%."
            f"{cut if (needle['cut'] >= 50).any() else ''}"
        )
        axes = ("sentence that states the fact", "right caption preferred, %")
        title = f"Position sensitivity, {condition_name(condition)}"
        stem = f"needle-{file_name(condition)}"
        one = Drawn(stem, "", needle, f"needle-{condition}", data, words, axes, title=title)
        drawn.append(keep(partial(curve_figure, needle, models, *axes, level=50.0), one))
    return drawn


def _needle(rows: pd.DataFrame, condition: str) -> pd.DataFrame:
    """Needle accuracy by sentence, with the share of captions in which the context ends before it (``cut``)."""
    keys = ["data", "model", "x"]
    cut = curve_rows(rows, "needle_cut", condition).set_index(keys)["value"].rename("cut")
    return curve_rows(rows, "needle_accuracy", condition).join(cut, on=keys).fillna({"cut": 0.0})
