"""The page's charts: a Vega-Lite specification each, and the numbers it is drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from clipbias.report.display import condition_name, model_name
from clipbias.report.page.board import Line
from clipbias.report.page.specs import curve, dots, layers, scatter
from clipbias.report.style import PAGE_COLOURS, Drawn

COLUMNS = ("data", "model", "name", "x", "condition", "layer", "value", "low", "high", "n", "interval")
"""Of every chart's numbers; ``interval`` is the 95% interval in words, for the tooltip."""


@dataclass(frozen=True)
class Chart:
    """One chart.

    Attributes:
        key: of its place in the page.
        title, caption: heading, and what is drawn, of what, with what band.
        spec: Vega-Lite, without data; the page adds the numbers of the data set and models that are picked.
        rows: lists in the order of `COLUMNS`.
        probe: what to run where a data set has no numbers for it.
        static: stems of the static figures, by data set.
    """

    key: str
    title: str
    caption: str
    spec: dict[str, Any]
    rows: list[list[object]]
    probe: str
    static: dict[str, str]


def chart_rows(table: pd.DataFrame, value: str = "value") -> list[list[object]]:
    """A figure's tidy table, in percent, as a chart's rows.

    Args:
        table: columns data, model, x, value, low, high, n and, where there are, condition and layer.
        value: "value", or "delta" with its interval.
    """
    low, high = ("low", "high") if value == "value" else ("delta_low", "delta_high")
    out: list[list[object]] = []
    for line in table.to_dict("records"):
        middle, ends = _round(line[value]), [_round(line[low]), _round(line[high])]
        panel = line.get("layer", line.get("sentences"))
        words = "" if None in ends else f"{line[low]:.1f} to {line[high]:.1f}"
        out.append([
            line["data"], line["model"], model_name(str(line["model"])), _round(line.get("x")),
            condition_name(str(line.get("condition", ""))), panel, middle, *ends, int(line["n"]), words,
        ])  # fmt: skip
    return out


def scatter_rows(lines: Sequence[Line]) -> list[list[object]]:
    """The points of `scatter`."""
    out: list[list[object]] = []
    for line in lines:
        across, up = line.cells.get("t1"), line.cells.get("rely")
        if across is None or up is None:
            continue
        words = "" if up.low is None or up.high is None else f"{up.low:.1f} to {up.high:.1f}"
        out.append([
            line.data, line.model, model_name(line.model), _round(across.value), _round(across.low),
            _round(across.high), _round(up.value), _round(up.low), _round(up.high), 0, words,
        ])  # fmt: skip
    return out


def published_rows(table: pd.DataFrame, data: str) -> list[list[object]]:
    """Published changes as rows of `dots`: layer "published", the source as the interval's words."""
    return [
        [data, line.model, model_name(str(line.model)), None, condition_name(str(line.condition)), "published",
         float(line.value), None, None, 0, str(line.source)]
        for line in table.itertuples()
    ]  # fmt: skip


def _round(number: Any) -> float | None:
    """Nine decimals: a tooltip rounds again, to one or two."""
    return None if number is None or pd.isna(number) else round(float(number), 9)


def page_charts(drawn: Sequence[Drawn], lines: Sequence[Line], order: Sequence[str]) -> list[Chart]:
    """The charts of the page, in its order; one without rows says which probe to run.

    Args:
        drawn: the static figures, with the tables they were drawn from.
        lines: the leaderboard's.
        order: of the models.
    """
    names = [model_name(model) for model in order]
    colours = [PAGE_COLOURS[i % len(PAGE_COLOURS)] for i in range(len(order))]
    by_kind: dict[str, list[Drawn]] = {}
    for one in drawn:
        by_kind.setdefault(one.kind, []).append(one)
    out = [
        Chart(
            "reliance", "Recall against reliance on the first sentence",
            "Each mark is a model, each bar its 95% interval over queries. Right: more captions find their image. "
            "Down: less of that is lost without the first sentence; how much a model without the bias would lose "
            "depends on what the first sentence tells.",
            scatter(names, colours), scatter_rows(lines), "drop-first",
            {one.data: one.stem for one in by_kind.pop("reliance", [])},
        )
    ]  # fmt: skip
    places = [(kind, title, probe) for kind, title, probe in PLACES if kind != "needle"]
    conditions_of_needles = sorted(kind for kind in by_kind if kind.startswith("needle")) or ["needle"]
    at = [kind for kind, *_ in PLACES].index("needle")
    places[at:at] = [(kind, _needle_title(kind), "needle") for kind in conditions_of_needles]
    for number, (kind, title, probe) in enumerate(places):
        mine = by_kind.get(kind, [])
        rows = [row for one in mine for row in _rows(one)]
        conditions = list(dict.fromkeys(str(row[4]) for row in rows))
        caption = _told(mine[0]) if mine else ""
        spec = _spec(kind, names, colours, conditions, mine[0].axes if mine else ("", ""))
        if mine or kind in ("padding", "drops", "needle"):
            key = kind if kind in dict.fromkeys(place[0] for place in PLACES) else f"needle-{number}"
            out.append(Chart(key, title, caption, spec, rows, probe, {one.data: one.stem for one in mine}))
    return out


def _told(one: Drawn) -> str:
    """A figure's words for the page, with what its bands or bars are."""
    return f"{one.words} {'Bars' if one.kind in ('drops', 'swap') else 'Bands'}: {one.band}."


def _needle_title(kind: str) -> str:
    condition = kind.partition("-")[2]
    return "Position sensitivity" + (f", {condition_name(condition)}" if condition else "")


PLACES = (
    ("padding", "Padding before the caption", "padding"),
    ("token-padding", "Pads before the caption", "token-padding"),
    ("drops", "First sentence removed or moved", "drop-first swap-1-4"),
    ("swap", "The first two sentences, swapped, and the first alone", "swap"),
    ("needle", "Position sensitivity", "needle"),
    ("attention-by-sentence", "Attention by sentence", "attention"),
    ("influence-by-sentence", "Influence by sentence", "influence"),
    ("attention-by-token", "Attention by token", "attention"),
    ("attention-by-layer", "Attention by layer", "attention"),
)
"""Kind of figure, the page's title of it, and the probe that it needs."""


_PANELS = {
    "attention-by-layer": "'layer ' + datum.value",
    "attention-by-sentence": "datum.value + ' sentences'",
    "influence-by-sentence": "datum.value + ' sentences'",
}


def _rows(one: Drawn) -> list[list[object]]:
    rows = chart_rows(one.table, "delta" if one.kind == "drops" else "value")
    return rows + (published_rows(one.published, one.data) if one.published is not None else [])


def _spec(
    kind: str, names: Sequence[str], colours: Sequence[str], conditions: Sequence[str], axes: tuple[str, str]
) -> dict[str, Any]:
    if kind in ("drops", "swap"):
        return dots(axes[1], names, conditions, zero=kind == "drops")
    if kind in _PANELS:
        return layers(*axes, names, colours, _PANELS[kind])
    return curve(*axes, names, colours, kind != "attention-by-token", 50.0 if kind.startswith("needle") else None)
