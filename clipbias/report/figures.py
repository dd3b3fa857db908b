"""The paper's figures from tidy tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from clipbias.names import for_figure
from clipbias.report.display import condition_name, model_name
from clipbias.report.style import PAPER, Look, figure_style, model_styles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BAND = 0.15
_FEW = 7
"""Models whose names stand beside each other below bars."""


def legend(figure: Figure, look: Look, columns: int = 0) -> None:
    """One legend below all, each name once, in columns as wide as the figure allows, so that it never covers data."""
    handles: dict[str, Any] = {}
    for axes in figure.axes:
        handles.update({name: mark for mark, name in zip(*axes.get_legend_handles_labels(), strict=True)})
    if not handles:
        return
    longest = max(map(len, handles)) + 6
    room = int(figure.get_figwidth() * 72 / (0.55 * look.size))
    figure.legend(
        list(handles.values()), list(handles), frameon=False, loc="upper center", bbox_to_anchor=(0.5, 0.0),
        ncols=columns or max(1, min(len(handles), room // longest)), borderaxespad=0.2, columnspacing=1.2,
    )  # fmt: skip


def small_multiples(
    count: int, across: int, look: Look, line: float = 1.0, foot: float = 0.0, sharey: bool = False
) -> tuple[Figure, Any]:
    """A page-wide figure of ``count`` empty panels that share their x axis, at most ``across`` in a line, and its grid.

    A line is ``line`` panels high, and ``foot`` more stands below; the last panel of a column has the ticks' labels.
    """
    import matplotlib.pyplot as plt

    columns = min(across, count)
    lines = -(-count // columns)
    figure, grid = plt.subplots(
        lines, columns, figsize=(look.page, (line * lines + foot) * look.tall), sharex=True, sharey=sharey,
        squeeze=False, layout="constrained",
    )  # fmt: skip
    for axes in grid.flat[count:]:
        axes.set_visible(False)
    for axes in grid.flat[count - columns : count]:
        axes.tick_params(labelbottom=True)
    return figure, grid


def _curves(
    axes: Axes, table: pd.DataFrame, models: Sequence[str], look: Look, column: str = "value", marks: bool = True
) -> None:
    """A line and a band for each model, in the order of the models."""
    low, high = ("low", "high") if column == "value" else ("delta_low", "delta_high")
    styles = model_styles(models, look.ink)
    parts = dict(list(table.groupby("model")))
    for model in (m for m in models if m in parts):
        part, style = parts[model], styles[model]
        drawn: dict[str, Any] = {k: v for k, v in style.items() if marks or k != "marker"}
        axes.plot(part["x"], part[column], label=for_figure(model_name(model)), **drawn)
        axes.fill_between(part["x"], part[low], part[high], color=style["color"], alpha=_BAND, linewidth=0)


def curve_figure(
    table: pd.DataFrame,
    models: list[str],
    x: str,
    y: str,
    marks: bool = True,
    level: float | None = None,
    look: Look = PAPER,
) -> Figure:
    """Values against x, a line per model, with 95% bands (attention by position, position sensitivity).

    Args:
        table: columns model, x, value, low, high, in percent.
        models: the order of the models.
        x, y: the axes' labels.
        marks: a mark at each x, and a tick; for curves of few points.
        level: a dotted line, such as chance.
        look: type, width, colours.

    A column ``cut`` (percent) marks points where most captions have lost to the context what is asked.
    """
    import matplotlib.pyplot as plt

    with figure_style(look):
        figure, axes = plt.subplots(figsize=(look.across, look.tall))
        _curves(axes, table, models, look, marks=marks)
        if "cut" in table:
            cut = table[table["cut"] >= 50]
            if len(cut):
                axes.plot(cut["x"], cut["value"], "s", color=look.ink, markerfacecolor=look.ground,
                          label="cut off by the context", zorder=3)  # fmt: skip
        if level is not None:
            axes.axhline(level, color=look.ink, linewidth=0.6, linestyle=":")
        axes.set_xlabel(for_figure(x))
        axes.set_ylabel(for_figure(y))
        axes.set_ylim(bottom=0)
        if marks:
            axes.set_xticks(sorted(table["x"].unique()))
        figure.tight_layout(pad=0.3)
        legend(figure, look)
    return figure


def _apart(values: pd.Series) -> list[float]:
    """Of the places on an axis those whose labels do not touch."""
    every = sorted(values.unique())
    out = every[:1]
    for one in every:
        if one - out[-1] >= 0.06 * (every[-1] - every[0]) and one > out[-1]:
            out.append(one)
    return out


def padding_figure(table: pd.DataFrame, models: list[str], x: str, y: str, look: Look = PAPER) -> Figure:
    """Recall against padding, and beside it the paired change from the caption without padding (Figure 2).

    Args:
        table: a `headline` table.
        models: the order of the models.
        x, y: the axes' labels.
        look: type, width, colours.
    """
    import matplotlib.pyplot as plt

    changes = table.assign(**{c: table[c].fillna(0.0) for c in ("delta", "delta_low", "delta_high")})
    with figure_style(look):
        figure, grid = plt.subplots(1, 2, figsize=(look.page, look.tall))
        _curves(grid[0], table, models, look)
        _curves(grid[1], changes, models, look, "delta")
        grid[1].axhline(0, color=look.ink, linewidth=0.6)
        for axes, label in zip(grid, (y, f"change of {y.partition(',')[0]}, points"), strict=True):
            axes.set_xlabel(for_figure(x))
            axes.set_ylabel(for_figure(label))
            axes.set_xticks(_apart(table["x"]))
        grid[0].set_ylim(bottom=0)
        figure.tight_layout(pad=0.3, w_pad=1.5)
        legend(figure, look)
    return figure


def bars_figure(
    table: pd.DataFrame,
    models: list[str],
    value: str,
    label: str,
    published: pd.DataFrame | None = None,
    look: Look = PAPER,
) -> Figure:
    """Bars with intervals: models along the axis, one bar per condition (Figure 3, and the drops).

    Args:
        table: a `headline` table.
        models: the order of the models.
        value: "value" or "delta".
        label: the axis' label.
        published: columns model, condition, value: numbers from papers, drawn as hollow marks.
        look: type, width, colours; few models stand beside each other, more below each other.
    """
    import matplotlib.pyplot as plt
    import seaborn as sns

    low, high = ("low", "high") if value == "value" else ("delta_low", "delta_high")
    conditions = list(table.sort_values("order")["condition"].unique())
    present = [m for m in models if m in set(table["model"])]
    names = ["\n".join(map(for_figure, model_name(m).rsplit(" ", 1))) for m in present]
    room = 0.85 * look.across * 72 / (0.6 * look.size) / len(present)
    below = len(present) > _FEW or max(len(part) for name in names for part in name.split("\n")) > room
    tall = max(look.tall, 0.018 * look.size * (len(conditions) * len(present) + 4)) if below else look.tall
    with figure_style(look):
        figure, axes = plt.subplots(figsize=(look.across, tall))
        colours = sns.color_palette("colorblind", len(conditions))
        width = 0.8 / len(conditions)
        error_look = {"linewidth": 0.6 * look.line, "ecolor": look.ink}
        for number, condition in enumerate(conditions):
            part = table[table["condition"] == condition].set_index("model").reindex(present)
            place = np.arange(len(present)) + (number - (len(conditions) - 1) / 2) * width
            errors = np.abs(np.vstack([part[value] - part[low], part[high] - part[value]]))
            draw, error = (axes.barh, "xerr") if below else (axes.bar, "yerr")
            named = for_figure(condition_name(condition))
            draw(place, part[value], width, label=named, color=colours[number], linewidth=0, **{error: errors},
                 error_kw=error_look)  # fmt: skip
            if published is not None:
                theirs = published[published["condition"] == condition].set_index("model")["value"].reindex(present)
                at = (theirs, place) if below else (place, theirs)
                told = "published" if number == len(conditions) - 1 and len(published) else None
                axes.plot(*at, "D", markerfacecolor="none", markeredgecolor=look.ink, label=told)
        if below:
            axes.set_yticks(np.arange(len(present)), [name.replace("\n", " ") for name in names])
            axes.invert_yaxis()
            axes.set_xlabel(for_figure(label))
            axes.grid(False, axis="y")
        else:
            axes.set_xticks(np.arange(len(present)), names)
            axes.set_ylabel(for_figure(label))
            axes.grid(False, axis="x")
        (axes.axvline if below else axes.axhline)(0, color=look.ink, linewidth=0.6)
        figure.tight_layout(pad=0.3)
        legend(figure, look)
    return figure


def scatter_figure(table: pd.DataFrame, models: list[str], x: str, y: str, look: Look = PAPER) -> Figure:
    """A mark per model with both of its intervals.

    Args:
        table: columns model, x, x_low, x_high, value, low, high.
        models: the order of the models.
        x, y: the axes' labels.
        look: type, width, colours.
    """
    import matplotlib.pyplot as plt

    styles = model_styles(models, look.ink)
    with figure_style(look):
        figure, axes = plt.subplots(figsize=(look.across, look.tall))
        for line in table.set_index("model").reindex([m for m in models if m in set(table["model"])]).itertuples():
            style = styles[str(line.Index)]
            errors = np.array([[line.x - line.x_low, line.x_high - line.x], [line.value - line.low,
                              line.high - line.value]])[:, :, None]  # fmt: skip
            axes.errorbar(line.x, line.value, xerr=errors[0], yerr=errors[1], color=style["color"], linestyle="none",
                          marker=style["marker"], label=for_figure(model_name(str(line.Index))))  # fmt: skip
        axes.set_ylim(bottom=0)
        axes.set_xlabel(for_figure(x))
        axes.set_ylabel(for_figure(y))
        axes.annotate("better \u2198", (0.98, 0.03), xycoords="axes fraction", ha="right", va="bottom")
        figure.tight_layout(pad=0.3)
        legend(figure, look)
    return figure


def panels_figure(
    table: pd.DataFrame,
    models: list[str],
    panel: str,
    title: str,
    x: str,
    label: str,
    ticks: list[int],
    look: Look = PAPER,
) -> Figure:
    """Small multiples, a panel for each layer or number of sentences.

    Args:
        table: columns model, ``panel``, x, value, low, high, in percent; where it has ``tokens`` it is drawn dotted.
        models: the order of the models.
        panel, title: the column that tells panels apart, and what stands above one ("layer {}").
        x, label: the axes' labels.
        ticks: of the x axis.
        look: type, colours.
    """
    layers = sorted(table[panel].unique())
    with figure_style(look):
        figure, grid = small_multiples(len(layers), 4, look, line=0.8, sharey=True)
        for axes, layer in zip(grid.flat, layers, strict=False):
            mine = table[table[panel] == layer]
            _curves(axes, mine, models, look, marks=False)
            if "tokens" in mine:
                shares = mine.groupby("x")["tokens"].mean()
                axes.plot(shares.index, shares, ":", color=look.ink, label="share of tokens")
            axes.set_title(for_figure(title.format(layer)))
            axes.set_xticks(ticks)
        grid[0, 0].set_ylim(bottom=0)  # shared; once all is drawn, as it fixes the top as well
        figure.supxlabel(for_figure(x))
        figure.supylabel(for_figure(label))
        legend(figure, look)
    return figure
