"""Bias against training steps: probes of the checkpoints that a training kept."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from clipbias.names import for_figure
from clipbias.report.display import condition_name
from clipbias.report.draw import kept
from clipbias.report.figures import legend, small_multiples
from clipbias.report.select import headline
from clipbias.report.style import PAPER, Drawn, Look, figure_style, model_styles

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STEP = re.compile(r"(.+)-step-(\d+)(@[0-9a-f]+)?")
CHANGES = {
    "drop-first": "drop-first", "swap-1-4": "swap-1-4", "padding": "pad-5", "token-padding": "shift-80",
}  # fmt: skip
"""Probe -> the condition whose change is drawn."""


def step_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of kept checkpoints, T2I R@1 on whole captions and the changes of `CHANGES`.

    Args:
        rows: of one data set, as `all_rows` gives them.

    Returns:
        Columns run, step, condition ("full" first), value, low, high, in percent or points; empty where no model is a
        kept checkpoint (``RUN-step-NUMBER``).
    """
    parts = []
    for probe, condition in CHANGES.items():
        table = headline(rows, probe, "t2i")
        names = table["model"].str.extract(_STEP)
        table = table.assign(run=names[0], step=pd.to_numeric(names[1])).dropna(subset=["run"])
        keep = ["run", "step", "condition", "value", "low", "high"]
        if probe == "drop-first":
            parts.append(table.loc[table["condition"] == "full", keep])
        changed = table[table["condition"] == condition]
        ends = {"value": changed["delta"], "low": changed["delta_low"], "high": changed["delta_high"]}
        parts.append(changed.assign(**ends)[keep])
    out = pd.concat(parts, ignore_index=True).astype({"step": int})
    return out.sort_values(["run", "step"], kind="stable").reset_index(drop=True)


def steps_figure(table: pd.DataFrame, look: Look = PAPER) -> Figure:
    """A panel per condition, a line per training with a 95% band.

    Args:
        table: as `step_rows` gives it.
        look: type, width, colours.
    """
    conditions = list(dict.fromkeys(c for c in ("full", *CHANGES.values()) if c in set(table["condition"])))
    runs = list(dict.fromkeys(table["run"]))
    styles = model_styles(runs, look.ink)
    with figure_style(look):
        figure, grid = small_multiples(len(conditions), 3, look)
        for axes, condition in zip(grid.flat, conditions, strict=False):
            part = table[table["condition"] == condition]
            for run in runs:
                mine = part[part["run"] == run]
                axes.plot(mine["step"], mine["value"], label=for_figure(run), **styles[run])
                axes.fill_between(mine["step"], mine["low"], mine["high"], color=styles[run]["color"], alpha=0.15, lw=0)
            change = f"{for_figure(condition_name(condition))},\nchange in points"
            axes.set_title("T2I R@1, %" if condition == "full" else change)
            axes.xaxis.get_major_locator().set_params(integer=True)
        figure.supxlabel("training steps")
        legend(figure, look)
    return figure


def step_figures(rows: pd.DataFrame, data: str, out: Path, looks: Sequence[Look]) -> list[Drawn]:
    """The figure of one data set where checkpoints of a training were probed at two steps or more."""
    table = step_rows(rows)
    if table["step"].nunique() < 2:
        return []
    words = "What the paper's changes of a caption cost, along trainings whose checkpoints were kept."
    one = Drawn("steps", "", table, "steps", data, words, title="Bias against training steps", band="95% intervals")
    return [kept(partial(steps_figure, table), one, out, looks)]
