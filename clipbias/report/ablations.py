"""Figures of the ablation: where its recipes end, and how they come there."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from clipbias.errors import UserError
from clipbias.names import file_name, for_figure
from clipbias.report.draw import kept
from clipbias.report.figures import legend, small_multiples
from clipbias.report.load import read_ablation, read_trajectory
from clipbias.report.style import PAPER, Drawn, Look, figure_style, model_styles, save_figure, titled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ACROSS = 4
"""Panels in a line."""


def ablation_figure(table: pd.DataFrame, look: Look = PAPER) -> Figure:
    """The ablation: a panel per measure, a place per recipe, a dot per training seed and a bar for their mean.

    Args:
        table: columns recipe, measure, mean, values (numbers, a seed each), in the order of the recipes.
        look: type, width, colours.
    """
    import seaborn as sns

    measures = list(dict.fromkeys(table["measure"]))
    recipes = list(dict.fromkeys(table["recipe"]))
    colour = sns.color_palette("colorblind")[0]
    with figure_style(look):
        figure, grid = small_multiples(len(measures), _ACROSS, look, line=0.75, foot=0.35)
        for axes, measure in zip(grid.flat, measures, strict=False):
            part = table[table["measure"] == measure].set_index("recipe")
            for place, recipe in enumerate(recipes):
                if recipe not in part.index:
                    continue
                values = part.loc[recipe, "values"]
                axes.plot([place] * len(values), values, "o", color=colour, alpha=0.5, linewidth=0)
                axes.hlines(part.loc[recipe, "mean"], place - 0.3, place + 0.3, color=look.ink)
            parts = measure.replace(", ", ",\n").split("\n")
            axes.set_title("\n".join(line for part in parts for line in textwrap.wrap(for_figure(part), 26)))
            axes.set_xticks(range(len(recipes)), list(map(for_figure, recipes)), rotation=60, ha="right")
            axes.set_xlim(-0.6, len(recipes) - 0.4)
    return figure


def seeds_figure(table: pd.DataFrame, look: Look = PAPER) -> Figure:
    """What padding sentences and pads cost the base and the recipes at both ends: thick means, thin training seeds.

    Args:
        table: as `ablation_figure` takes it.
        look: type, width, colours.
    """
    import matplotlib.pyplot as plt

    recipes = {name: title for name, title in _ENDS.items() if name in set(table["recipe"])}
    styles = model_styles(list(recipes), look.ink)
    with figure_style(look):
        figure, grid = plt.subplots(1, 2, figsize=(look.page, look.tall), sharey=True)
        for axes, what in zip(grid, _BEFORE, strict=True):
            numbers = table["measure"].str.extract(rf"^(\d+) {what}, T2I change$")[0]
            part = table.assign(x=numbers.astype(float))[numbers.notna()].sort_values("x")
            for recipe, title in recipes.items():
                mine = part[part["recipe"] == recipe]
                x = [0.0, *mine["x"]]
                drawn = {k: v for k, v in styles[recipe].items() if k != "marker"}
                seeds = list(zip(*mine["values"], strict=True))
                for seed in seeds:
                    axes.plot(x, [0.0, *seed], **drawn, alpha=0.3, linewidth=0.35 * look.line)
                means = [sum(values) / len(values) for values in mine["values"]]
                axes.plot(x, [0.0, *means], **styles[recipe], label=title, linewidth=1.5 * look.line)
            axes.axhline(0, color=look.ink, linewidth=0.6)
            axes.set_xlabel(f"{what} before two sentences")
            axes.set_xticks([0.0, *sorted(part["x"].unique())])
        grid[0].set_ylabel("change of T2I R@1, points")
        figure.tight_layout(pad=0.3, w_pad=1.5)
        legend(figure, look)
    return figure


_BEFORE = ("padding sentences", "pads")
_ENDS = {"base": "pre-trained base", "longclip": "Long-CLIP's recipe", "debias": "DeBias-CLIP's recipe"}


def trajectory_figure(table: pd.DataFrame, look: Look = PAPER) -> Figure:
    """Along the trainings: a panel per measure, a line per recipe (mean over seeds), thin lines for the seeds.

    Args:
        table: columns recipe, seed, step, measure, value; the steps of a fine-tuning count on from its base's.
        look: type, width, colours.
    """
    measures = list(dict.fromkeys(table["measure"]))
    recipes = list(dict.fromkeys(table["recipe"]))
    styles = model_styles(recipes, look.ink)
    with figure_style(look):
        figure, grid = small_multiples(len(measures), 2, look)
        for axes, measure in zip(grid.flat, measures, strict=False):
            part = table[table["measure"] == measure]
            for recipe in recipes:
                mine = part[part["recipe"] == recipe].pivot(index="step", columns="seed", values="value")
                drawn = {k: v for k, v in styles[recipe].items() if k != "marker"}
                axes.plot(mine.index, mine.to_numpy(), **drawn, alpha=0.25, linewidth=0.3 * look.line)
                axes.plot(mine.index, mine.mean(axis="columns"), **drawn, label=for_figure(recipe))
            axes.set_title(for_figure(measure))
        figure.supxlabel("steps of pre-training, then of fine-tuning")
        figure.supylabel("% or points")
        legend(figure, look)
    return figure


def ablation_figures(results: Sequence[Path], out: Path, looks: Sequence[Look], damaged: list[str]) -> list[Drawn]:
    """The tables of `clipbias finetune ablation` among the results, one figure each; ``damaged`` names the others."""
    drawn = []
    for path in sorted(p for r in results for p in ([r] if r.is_file() else r.rglob("ablation*.csv"))):
        if path.stem.endswith("-paired") or not path.stem.startswith("ablation"):
            continue
        try:
            figures = (_along if path.stem.endswith("-trajectory") else _ends)(path)
        except UserError as error:
            damaged.append(str(error))
            continue
        for draw, one in figures:
            if path.resolve() == (out / f"{one.stem}.csv").resolve():
                # The table itself: only the figure is made of it.
                for look in looks:
                    figure = draw(look=look)
                    titled(figure, look, one.title, one.told)
                    save_figure(figure, out / (one.stem + ("-dark" if look.dark else "")), look)
                drawn.append(one)
            else:
                drawn.append(kept(draw, one, out, looks))
    return drawn


Figures = list[tuple[Callable[..., "Figure"], Drawn]]


def _ends(path: Path) -> Figures:
    table = read_ablation(path)
    shown = table.assign(values=[" ".join(f"{v:+.1f}" for v in values) for values in table["values"]])
    words = "Ablations between Long-CLIP's recipe and DeBias-CLIP's."
    band = "a dot per training seed, a bar for their mean"
    one = Drawn(file_name(path.stem), "", shown, "ablation", "", words, title="Ablations", band=band)
    out: Figures = [(partial(ablation_figure, table), one)]
    padded = table[table["measure"].str.fullmatch(rf"\d+ ({'|'.join(_BEFORE)}), T2I change")]
    if set(padded["recipe"]) & set(_ENDS):
        words = "What stands before a caption's first two sentences costs: padding sentences, and pads."
        stem, band = file_name(f"{path.stem}-padding"), "thin lines: training seeds, thick: their mean"
        few = shown.loc[padded.index]
        named = Drawn(stem, "", few, "ablation", "", words, title="What padding before a caption costs", band=band)
        out.append((partial(seeds_figure, padded), named))
    return out


def _along(path: Path) -> Figures:
    table = read_trajectory(path)
    words = "Recall on held-out scenes, and what the paper's changes of a caption cost, along the trainings."
    band = "a thin line per training seed, a thick one for their mean"
    one = Drawn(file_name(path.stem), "", table, "ablation", "", words, title="Along the trainings", band=band)
    return [(partial(trajectory_figure, table), one)]
