"""Vega-Lite specifications, without data: curves, dots with intervals, the scatter, and layers as small multiples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def _axis(title: str, **more: object) -> dict[str, Any]:
    return {"title": title, **more}


def _model(names: Sequence[str], colours: Sequence[str], shapes: bool = True) -> dict[str, Any]:
    """Colour (and shape) by model, the same in every chart."""
    legend = {"orient": "bottom", "title": None, "labelLimit": 400, "symbolOpacity": 1}
    out: dict[str, Any] = {
        "color": {
            "field": "name",
            "type": "nominal",
            "scale": {"domain": list(names), "range": list(colours)},
            "legend": legend,
        }
    }
    if shapes:
        out["shape"] = {"field": "name", "type": "nominal", "scale": {"domain": list(names)}, "legend": legend}
    return out


def _tooltip(x: str = "", condition: str = "", unit: str = "%") -> list[dict[str, Any]]:
    fields = [{"field": "name", "type": "nominal", "title": "model"}]
    if condition:
        fields.append({"field": "condition", "type": "nominal", "title": condition})
    if x:
        fields.append({"field": "x", "type": "quantitative", "title": x})
    fields += [
        {"field": "value", "type": "quantitative", "title": unit, "format": ".1f"},
        {"field": "interval", "type": "nominal", "title": "95% interval"},
        {"field": "n", "type": "quantitative", "title": "captions", "format": ","},
    ]
    return fields


def curve(
    x: str, y: str, names: Sequence[str], colours: Sequence[str], points: bool = True, level: float | None = None
) -> dict[str, Any]:
    """Values against x, a line per model with its 95% band; ``level``: a dashed line, such as chance."""
    across = {
        "field": "x",
        "type": "quantitative",
        "axis": _axis(x, tickMinStep=1),
        "scale": {"zero": False, "nice": False},
    }
    up = {"field": "value", "type": "quantitative", "axis": _axis(y), "scale": {"zero": True}}
    look = _model(names, colours, points)
    colour = {"color": look["color"]}
    layers: list[dict[str, Any]] = [
        {
            "mark": {"type": "area", "opacity": 0.16, "aria": False},
            "encoding": {
                "x": across,
                "y": {"field": "low", "type": "quantitative", "axis": _axis(y)},
                "y2": {"field": "high"},
                **colour,
            },
        },
        {"mark": {"type": "line", "strokeWidth": 2, "aria": False}, "encoding": {"x": across, "y": up, **colour}},
        {
            "mark": {"type": "point", "filled": True, "size": 60 if points else 25, "opacity": 1 if points else 0},
            "encoding": {"x": across, "y": up, **look, "tooltip": _tooltip(x)},
        },
    ]
    if level is not None:
        layers.append(
            {"mark": {"type": "rule", "strokeDash": [4, 4], "aria": False}, "encoding": {"y": {"datum": level}}}
        )
    return {"width": "container", "height": 280, "layer": layers}


def dots(x: str, names: Sequence[str], conditions: Sequence[str], zero: bool = False) -> dict[str, Any]:
    """A value with its 95% interval per model and condition; hollow diamonds are published numbers."""
    across = {"type": "quantitative", "axis": _axis(x)}
    legend = {"orient": "bottom", "title": None, "labelLimit": 400, "symbolOpacity": 1}
    place = {
        "y": {
            "field": "name",
            "type": "nominal",
            "sort": list(names),
            "axis": _axis("", labelLimit=220),
            "title": None,
        },
        "yOffset": {"field": "condition", "type": "nominal", "sort": list(conditions)},
        "color": {
            "field": "condition",
            "type": "nominal",
            "sort": list(conditions),
            "scale": {"domain": list(conditions), "range": list(CONDITION_COLOURS)},
            "legend": legend,
        },
    }
    measured = {"filter": "datum.layer !== 'published'"}
    theirs = {"filter": "datum.layer === 'published'"}
    layers: list[dict[str, Any]] = [
        {
            "transform": [measured],
            "mark": {"type": "rule", "strokeWidth": 2, "aria": False},
            "encoding": {**place, "x": {"field": "low", **across}, "x2": {"field": "high"}},
        },
        {
            "transform": [measured],
            "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
            "encoding": {
                **place,
                "x": {"field": "value", **across, "scale": {"zero": True}},
                "tooltip": _tooltip(condition="condition", unit="points" if zero else "%"),
            },
        },
        {
            "transform": [theirs],
            "mark": {"type": "point", "filled": False, "shape": "diamond", "size": 90, "strokeWidth": 2},
            "encoding": {
                **place,
                "x": {"field": "value", **across},
                "tooltip": _tooltip(condition="published", unit="points" if zero else "%")[:3],
            },
        },
    ]
    if zero:
        layers.append({"mark": {"type": "rule", "aria": False}, "encoding": {"x": {"datum": 0}}})
    fit = {"type": "fit-x", "contains": "padding"}
    step = {"step": 14 if len(conditions) > 1 else 22}
    return {"width": "container", "height": step, "autosize": fit, "layer": layers}


CONDITION_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def scatter(names: Sequence[str], colours: Sequence[str]) -> dict[str, Any]:
    """Recall against reliance on the first sentence, with both intervals; right and down is good.

    ``x`` is the recall, its interval ``condition`` to ``layer``; value, low and high are the reliance.
    """
    look = _model(names, colours)
    across = {
        "type": "quantitative",
        "axis": _axis("T2I R@1 on whole captions, % (more is better)", tickCount=8),
        "scale": {"zero": False},
    }
    up = {"type": "quantitative", "axis": _axis("reliance: % of R@1 lost (less is better)", tickCount=6),
          "scale": {"zero": True}}  # fmt: skip
    colour = {"color": look["color"]}
    return {
        "width": "container",
        "height": 340,
        "layer": [
            {
                "mark": {"type": "rule", "strokeWidth": 2, "aria": False},
                "encoding": {"x": {"field": "condition", **across}, "x2": {"field": "layer"},
                             "y": {"field": "value", **up}, **colour},
            },
            {
                "mark": {"type": "rule", "strokeWidth": 2, "aria": False},
                "encoding": {"x": {"field": "x", **across}, "y": {"field": "low", **up}, "y2": {"field": "high"},
                             **colour},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 120, "opacity": 1},
                "encoding": {
                    "x": {"field": "x", **across}, "y": {"field": "value", **up}, **look,
                    "tooltip": [
                        {"field": "name", "type": "nominal", "title": "model"},
                        {"field": "x", "type": "quantitative", "title": "T2I R@1, %", "format": ".1f"},
                        {"field": "value", "type": "quantitative", "title": "lost, % of R@1", "format": ".1f"},
                        {"field": "interval", "type": "nominal", "title": "95% interval of the loss"},
                    ],
                },
            },
            {
                "data": {"values": [{}]},
                "mark": {"type": "text", "align": "right", "baseline": "bottom", "dx": -8, "dy": -8, "aria": False},
                "encoding": {"text": {"value": "better \u2198"}, "x": {"value": "width"}, "y": {"value": "height"}},
            },
        ],
    }  # fmt: skip


def layers(x: str, y: str, names: Sequence[str], colours: Sequence[str], label: str) -> dict[str, Any]:
    """A small curve per layer, or per number of sentences; ``label``: of a panel, an expression of ``datum.value``."""
    inner = curve(x, y, names, colours, points=False)
    inner = {"layer": [{**one, "encoding": dict(one["encoding"])} for one in inner["layer"]], "height": 120}
    inner["layer"][2]["encoding"]["tooltip"] = _tooltip(x)
    return {
        "facet": {
            "field": "layer",
            "type": "nominal",
            "header": {"title": None, "labelExpr": label},
        },
        "columns": 4,
        "spec": inner,
    }
