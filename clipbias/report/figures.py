"""The paper's figures from result rows; each also as the tidy table it was drawn from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from clipbias.names import for_figure
from clipbias.report.style import COLUMN, figure_style, model_styles

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def _in_percent(table: pd.DataFrame) -> pd.DataFrame:
    """The table with its fractions in percent (points for differences), and x a number."""
    fractions = [c for c in ("value", "low", "high", "delta", "delta_low", "delta_high") if c in table]
    percent = {column: table[column].astype(float) * 100 for column in fractions}
    return table.assign(x=table["x"].astype(float), **percent)


def headline(rows: pd.DataFrame, probe: str, direction: str) -> pd.DataFrame:
    """R@1 rows of one probe and direction on eligible captions, in percent; columns of a tidy figure table."""
    chosen = rows[
        (rows["probe"] == probe)
        & (rows["direction"] == direction)
        & (rows["metric"] == "recall@1")
        & (rows["scope"] == "eligible")
    ]
    columns = [
        "data",
        "model",
        "condition",
        "order",
        "x",
        "value",
        "low",
        "high",
        "delta",
        "delta_low",
        "delta_high",
        "p_holm",
        "n",
    ]
    out = chosen[columns].sort_values(["data", "model", "order"]).reset_index(drop=True)
    return _in_percent(out)


def curve_rows(rows: pd.DataFrame, metric: str, condition: str) -> pd.DataFrame:
    """A curve without a direction (attention by position, needle accuracy): its rows in the order of x, in percent."""
    chosen = rows[(rows["metric"] == metric) & (rows["condition"] == condition) & rows["x"].notna()]
    out = _in_percent(chosen[["data", "model", "condition", "metric", "x", "value", "low", "high", "n"]])
    # The last positions belong to the few longest captions; a mean over a handful says nothing.
    out = out[out["n"] >= 0.05 * out.groupby(["data", "model"])["n"].transform("max")]
    return out.sort_values(["data", "model", "x"]).reset_index(drop=True)


def layer_rows(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """A curve for each layer (conditions ``layer-1`` ...), in percent, with a column ``layer``."""
    chosen = rows[(rows["metric"] == metric) & rows["condition"].str.fullmatch(r"layer-\d+") & rows["x"].notna()]
    out = _in_percent(chosen[["data", "model", "condition", "x", "value", "low", "high", "n"]])
    out.insert(2, "layer", out.pop("condition").str.removeprefix("layer-").astype(int))
    return out.sort_values(["data", "model", "layer", "x"]).reset_index(drop=True)


def sentence_rows(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Curves by sentence (conditions ``sentences-S``), in percent, with columns ``sentences`` and ``tokens``."""
    chosen = rows[rows["condition"].str.fullmatch(r"sentences-\d+") & rows["x"].notna()]
    keys = ["data", "model", "condition", "x"]
    tokens = chosen[chosen["metric"] == "tokens_by_sentence"].drop_duplicates(keys).set_index(keys)["value"]
    out = chosen[chosen["metric"] == metric][[*keys, "value", "low", "high", "n"]]
    out = _in_percent(out.join(100 * tokens.astype(float).rename("tokens"), on=keys))
    out.insert(2, "sentences", out.pop("condition").str.removeprefix("sentences-").astype(int))
    return out.sort_values(["data", "model", "sentences", "x"]).reset_index(drop=True)


def _legend(axes: Axes, models: int) -> None:
    """The legend below the axes, in columns, so that it never covers data."""
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=1 if models > 12 else 2, frameon=False)


def curve_figure(
    table: pd.DataFrame, models: list[str], x: str, y: str, marks: bool = True, level: float | None = None
) -> Figure:
    """Values against x, a line a model, with 95% bands (Figure 2, attention by position, position sensitivity).

    Args:
        table: columns model, x, value, low, high, in percent.
        models: the order of the models.
        x, y: the axes' labels.
        marks: a mark at each x, and a tick; for curves of few points.
        level: a dotted line, such as chance.

    A column ``cut`` (percent) marks points where most captions have lost to the context what is asked.
    """
    import matplotlib.pyplot as plt

    styles = model_styles(models)
    with figure_style():
        figure, axes = plt.subplots(figsize=(COLUMN, 2.4))
        for model, part in table.groupby("model"):
            style = styles[str(model)]
            drawn: dict[str, Any] = {k: v for k, v in style.items() if marks or k != "marker"}
            axes.plot(part["x"], part["value"], label=for_figure(model), markersize=3.5, linewidth=1.2, **drawn)
            axes.fill_between(part["x"], part["low"], part["high"], color=style["color"], alpha=0.15, linewidth=0)
        if "cut" in table:
            cut = table[table["cut"] >= 50]
            axes.plot(cut["x"], cut["value"], "s", color="black", markerfacecolor="white", markersize=5,
                      label="cut off by the context", zorder=3)  # fmt: skip
        if level is not None:
            axes.axhline(level, color="black", linewidth=0.6, linestyle=":")
        axes.set_xlabel(for_figure(x))
        axes.set_ylabel(for_figure(y))
        axes.set_ylim(bottom=0)
        if marks:
            axes.set_xticks(sorted(table["x"].unique()))
        _legend(axes, table["model"].nunique())
    return figure


def bars_figure(
    table: pd.DataFrame, models: list[str], value: str, label: str, published: pd.DataFrame | None = None
) -> Figure:
    """Grouped bars with intervals: models along the axis, one bar a condition (Figure 3, and the drops).

    Args:
        table: a `headline` table.
        models: the order of the models.
        value: "value" or "delta".
        label: the axis' label.
        published: columns model, condition, value: numbers from papers, drawn as hollow marks.
    """
    import matplotlib.pyplot as plt
    import seaborn as sns

    low, high = ("low", "high") if value == "value" else ("delta_low", "delta_high")
    conditions = list(table.sort_values("order")["condition"].unique())
    present = [m for m in models if m in set(table["model"])]
    horizontal = len(present) > 6 or max(map(len, present)) > 16
    size = (COLUMN, max(2.4, 0.11 * len(conditions) * len(present) + 1)) if horizontal else (COLUMN * 1.35, 2.4)
    with figure_style():
        figure, axes = plt.subplots(figsize=size)
        colours = sns.color_palette("colorblind", len(conditions))
        width = 0.8 / len(conditions)
        for number, condition in enumerate(conditions):
            part = table[table["condition"] == condition].set_index("model").reindex(present)
            place = np.arange(len(present)) + (number - (len(conditions) - 1) / 2) * width
            errors = np.abs(np.vstack([part[value] - part[low], part[high] - part[value]]))
            draw, error = (axes.barh, "xerr") if horizontal else (axes.bar, "yerr")
            draw(
                place,
                part[value],
                width,
                label=for_figure(condition),
                color=colours[number],
                **{error: errors},
                error_kw={"linewidth": 0.7},
            )
            if published is not None:
                theirs = published[published["condition"] == condition].set_index("model")["value"].reindex(present)
                at = (theirs, place) if horizontal else (place, theirs)
                named = "published" if number == len(conditions) - 1 and len(published) else None
                axes.plot(*at, "D", markerfacecolor="none", markeredgecolor="black", markersize=4, label=named)
        if horizontal:
            axes.set_yticks(np.arange(len(present)), list(map(for_figure, present)))
            axes.invert_yaxis()
            axes.set_xlabel(for_figure(label))
        else:
            axes.set_xticks(np.arange(len(present)), list(map(for_figure, present)), rotation=15, ha="right")
            axes.set_ylabel(for_figure(label))
        (axes.axvline if horizontal else axes.axhline)(0, color="black", linewidth=0.6)
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False)
    return figure


def panels_figure(
    table: pd.DataFrame, models: list[str], panel: str, title: str, x: str, label: str, ticks: list[int]
) -> Figure:
    """A curve for each layer, or each number of sentences, as small multiples; a line per model.

    Args:
        table: columns model, ``panel``, x, value, low, high, in percent; where there is ``tokens``, it is drawn dotted.
        models: the order of the models.
        panel, title: the column that tells panels apart, and what stands above one ("layer {}").
        x, label: the axes' labels.
        ticks: of the x axis.
    """
    import matplotlib.pyplot as plt

    styles = model_styles(models)
    layers = sorted(table[panel].unique())
    columns = min(4, len(layers))
    lines = -(-len(layers) // columns)
    with figure_style():
        figure, grid = plt.subplots(
            lines, columns, figsize=(2 * COLUMN, 1.5 * lines + 0.6), sharex=True, sharey=True, squeeze=False
        )
        for axes in grid.flat[len(layers) :]:
            axes.set_visible(False)
        for axes, layer in zip(grid.flat, layers, strict=False):
            mine = table[table[panel] == layer]
            for model, part in mine.groupby("model"):
                style = {k: v for k, v in styles[str(model)].items() if k != "marker"}
                axes.plot(part["x"], part["value"], label=for_figure(model), linewidth=1.2, **style)
                axes.fill_between(part["x"], part["low"], part["high"], color=style["color"], alpha=0.15, linewidth=0)
            if "tokens" in mine:
                shares = mine.groupby("x")["tokens"].mean()
                axes.plot(shares.index, shares, ":", color="black", linewidth=0.9, label="share of tokens")
            axes.set_title(for_figure(title.format(layer)), fontsize="small")
            axes.set_xticks(ticks)
        grid[0, 0].set_ylim(bottom=0)  # shared; once all is drawn, as it fixes the top as well
        figure.supxlabel(for_figure(x), fontsize="medium")
        figure.supylabel(for_figure(label), fontsize="medium")
        handles: dict[str, Artist] = {}
        for axes in grid.flat:
            handles.update({name: line for line, name in zip(*axes.get_legend_handles_labels(), strict=True)})
        figure.tight_layout()
        columns = 2 if len(handles) > 12 else 3
        figure.legend(
            list(handles.values()), list(handles), frameon=False,
            loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=columns,
        )  # fmt: skip
    return figure


def ablation_figure(table: pd.DataFrame) -> Figure:
    """The ablation: a panel a measure, a recipe a place, a dot a training seed and a bar for their mean.

    Args:
        table: columns recipe, measure, mean, values (numbers, a seed each), in the order of the recipes.
    """
    import matplotlib.pyplot as plt
    import seaborn as sns

    measures = list(dict.fromkeys(table["measure"]))
    recipes = list(dict.fromkeys(table["recipe"]))
    colour = sns.color_palette("colorblind")[0]
    with figure_style():
        figure, grid = plt.subplots(1, len(measures), figsize=(1.5 * len(measures) + 0.5, 2.4), squeeze=False)
        for axes, measure in zip(grid.flat, measures, strict=True):
            part = table[table["measure"] == measure].set_index("recipe")
            for place, recipe in enumerate(recipes):
                if recipe not in part.index:
                    continue
                values = part.loc[recipe, "values"]
                axes.plot([place] * len(values), values, "o", color=colour, alpha=0.5, markersize=3.5, linewidth=0)
                axes.hlines(part.loc[recipe, "mean"], place - 0.3, place + 0.3, color="black", linewidth=1.2)
            axes.set_title(",\n".join(map(for_figure, measure.split(", "))), fontsize="small")
            axes.set_xticks(range(len(recipes)), list(map(for_figure, recipes)), rotation=60, ha="right")
            axes.set_xlim(-0.6, len(recipes) - 0.4)
        figure.tight_layout()
    return figure
