"""What the page shows and what its script works on, from runs and drawn figures."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clipbias.report.columns import COLUMNS, GROUPS, Column
from clipbias.report.display import model_name
from clipbias.report.material import Material, Place
from clipbias.report.page.board import Cell, Line
from clipbias.report.page.captions import caption_facts
from clipbias.report.page.charts import (
    COLUMNS as CHART_COLUMNS,
)
from clipbias.report.page.charts import Chart, page_charts
from clipbias.report.page.findings import findings
from clipbias.report.page.render import data_link, render_page
from clipbias.report.style import PAGE_COLOURS, Drawn
from clipbias.results.folder import Finished

PROBES = (
    "drop-first",
    "first-only",
    "swap-1-4",
    "swap",
    "padding",
    "token-padding",
    "attention",
    "influence",
    "needle",
)
"""What the page has a place for, in its order."""
ALONE = Place()


def build_page(material: Material, place: Place = ALONE) -> str:
    """The page as text, of all that there is, or of one model or data set among others."""
    runs, drawn, order = material.runs, material.drawn, material.order
    heat, examples = material.heat, material.examples
    lines = material.lines
    data = sorted({one.run.data for one in runs})
    charts = page_charts(drawn, lines, order)
    facts = _facts(data, order, lines, charts) | caption_facts(examples, heat)
    context = {
        "title": f"clipbias: {place.heading.partition(':')[0] or _several(data)}",
        "heading": place.heading or "Which image-text models read the whole caption?",
        "up": place.up,
        "pages": {"models": dict(place.models), "data": dict(place.data)},
        "published": place.published,
        "models": [
            {"id": m, "name": model_name(m), "colour": PAGE_COLOURS[i % len(PAGE_COLOURS)]} for i, m in enumerate(order)
        ],
        "data": [_data(runs, name, lines) for name in data],
        "probes": [p for p in dict.fromkeys([*PROBES, *sorted({r.run.probe for r in runs})]) if p in _ran(runs)],
        "missing": [p for p in dict.fromkeys(c.probe for c in COLUMNS) if p not in _ran(runs)],
        "when": _when(runs),
        "versions": _versions(runs),
        "seeds": True,
        "contents": _contents(bool(heat), bool(place.published)),
        "columns": [_column(c, lines) for c in COLUMNS],
        "groups": [_group(g) for g in GROUPS],
        "board": [_line(line, lines) for line in lines],
        "charts": [_chart(c, drawn, material.figures) for c in charts],
        "examples": bool(examples),
        "heat": bool(heat),
        "runs": _table(runs, order),
        "software": _software(runs),
        "bibtex": BIBTEX,
        "downloads": [{"name": n, "href": data_link(text, kind), "words": n} for n, kind, text in material.downloads],
    }
    return render_page(context, facts)


def _facts(data: list[str], order: Sequence[str], lines: Sequence[Line], charts: Sequence[Chart]) -> dict[str, Any]:
    """What the page's script reads."""
    return {
        "data": data,
        "models": [{"id": m, "name": model_name(m)} for m in order],
        "board": [
            {
                "name": model_name(line.model), "model": line.model, "data": line.data, "context": line.context,
                "cells": {key: {"v": round(cell.value, 3), "r": cell.rank} for key, cell in line.cells.items()},
            }
            for line in lines
        ],
        "low": [column.key for column in COLUMNS if column.better == "low"],
        "columns": list(CHART_COLUMNS),
        "charts": {c.key: {"spec": c.spec, "rows": c.rows, "probe": c.probe} for c in charts},
    }  # fmt: skip


BIBTEX = """\
@inproceedings{lavoie2026shortsighted,
  title     = {CLIP Is Shortsighted: Paying Attention Beyond the First Sentence},
  author    = {Lavoie and Mahmoud and Zaimi and Fansi Tchango and Waslander},
  booktitle = {CVPR},
  year      = {2026},
  url       = {https://arxiv.org/abs/2602.22419},
}
@software{clipbias,
  title   = {clipbias: retrieval evaluation and bias probing of image-text models on long captions},
  author  = {{The clipbias authors}},
  license = {MIT},
}"""


def _several(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{len(names)} data sets"


def _ran(runs: Sequence[Finished]) -> set[str]:
    return {one.run.probe for one in runs}


def _when(runs: Sequence[Finished]) -> str:
    days = sorted({one.run.created[:10] for one in runs})
    return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"


def _versions(runs: Sequence[Finished]) -> str:
    """ "clipbias 1.0.0 on cpu"."""
    versions = sorted({one.run.versions.get("clipbias", "") for one in runs} - {""})
    devices = sorted({one.run.device for one in runs})
    return f"clipbias {', '.join(versions) or '(version not recorded)'} on {', '.join(devices)}"


def _software(runs: Sequence[Finished]) -> str:
    """Versions and methods, where all runs agree; else that they do not."""
    parts = []
    for words, values in (
        ("Intervals", {one.run.interval for one in runs}),
        ("Precision", {one.run.precision for one in runs}),
        ("Versions", {", ".join(f"{k} {v}" for k, v in one.run.versions.items()) for one in runs}),
    ):
        parts.append(f"{words}: {next(iter(values))}." if len(values) == 1 else f"{words}: differ between the runs.")
    return " ".join(parts)


def _data(runs: Sequence[Finished], name: str, lines: Sequence[Line]) -> dict[str, object]:
    run = next(one.run for one in runs if one.run.data == name)
    mine = [line for line in lines if line.data == name]
    return {
        "name": name, "images": f"{run.images:,}", "captions": f"{run.captions:,}", "protocol": run.protocol,
        "findings": findings(mine, COLUMNS),
    }  # fmt: skip


def _contents(heat: bool, published: bool) -> list[tuple[str, str]]:
    return [
        ("#findings", "Findings"),
        ("#leaderboard", "Leaderboard"),
        *([("#published", "Published")] if published else []),
        ("#charts", "Charts"),
        ("#captions", "Captions"),
        *([("#tokens", "Tokens")] if heat else []),
        ("#runs", "Runs"),
        ("#cite", "Cite and download"),
    ]


def _column(column: Column, lines: Sequence[Line]) -> dict[str, object]:
    rankable = any(line.cells[column.key].rank for line in lines if column.key in line.cells)
    return {"rankable": rankable, **column.__dict__}


def _group(name: str) -> dict[str, object]:
    mine = [c for c in COLUMNS if c.group == name]
    return {"name": name, "all": len(mine), "open": len([c for c in mine if not c.folded])}


def _line(line: Line, lines: Sequence[Line]) -> dict[str, object]:
    cells = [_cell(column, line.cells.get(column.key), lines) for column in COLUMNS]
    return {**line.__dict__, "name": model_name(line.model), "cells": cells}


def _cell(column: Column, cell: Cell | None, lines: Sequence[Line]) -> dict[str, object]:
    """A cell's texts and the width of its bar, in percent of the column's largest number."""
    known = {
        "folded": column.folded, "probe": column.probe, "kind": "" if column.better == "high" else "loss",
        "label": column.label + (f", {column.unit}" if column.unit else ""),
    }  # fmt: skip
    if cell is None:
        return {**known, "text": ""}
    largest = max(abs(line.cells[column.key].value) for line in lines if column.key in line.cells)
    scale = 100.0 if column.unit == "%" else largest or 1.0
    sign = "+" if column.delta else ""
    between = "" if cell.low is None or cell.high is None else f"{cell.low:{sign}.1f} to {cell.high:{sign}.1f}"
    width = round(min(100.0, 100 * abs(cell.value) / scale), 1)
    minus = str.maketrans("-", "\u2212")
    text = f"{cell.value:{sign}.1f}".translate(minus)
    return {**known, "text": text, "interval": between.translate(minus), "width": width}


def merged(commands: Sequence[str]) -> list[str]:
    """Commands, those that differ only in the probe as one with all of their probes."""
    out: dict[tuple[str, str], list[str]] = {}
    for command in dict.fromkeys(commands):
        found = re.fullmatch(r"(clipbias probe )((?:[^-\s]\S* )+)(--.*)", command)
        key = (found[1], found[3]) if found else (command, "")
        out.setdefault(key, []).extend(found[2].split() if found else [])
    return [f"{head}{' '.join(dict.fromkeys(probes))} {tail}" if tail else head for (head, tail), probes in out.items()]


def _shorter(svg: str) -> str:
    """A figure with its coordinates to a hundredth of a point; numbers below 1, such as scales, stay as they are."""
    return re.sub(r"(?<![\d.])(-?[1-9]\d*\.\d\d)\d+", r"\1", svg)


def _chart(chart: Chart, drawn: Sequence[Drawn], out: Path) -> dict[str, object]:
    statics = []
    for one in drawn:
        if one.stem in chart.static.values():
            image = base64.b64encode(_shorter((out / f"{one.stem}.svg").read_text("utf-8")).encode()).decode()
            csv = data_link((out / f"{one.stem}.csv").read_text("utf-8"), "text/csv")
            statics.append({"data": one.data, "stem": one.stem, "image": image, "csv": csv, "caption": one.caption})
    return {
        "key": chart.key, "title": chart.title, "caption": chart.caption, "probe": chart.probe,
        "full": chart.key == "reliance" or "facet" in chart.spec, "measured": bool(chart.rows), "statics": statics,
    }  # fmt: skip


def _table(runs: Sequence[Finished], order: Sequence[str]) -> list[dict[str, object]]:
    """What was run, a line per model and data set."""
    groups: dict[tuple[int, str], list[Finished]] = {}
    for one in runs:
        groups.setdefault((list(order).index(one.run.model), one.run.data), []).append(one)
    return [
        {
            "model": model_name(mine[0].run.model), "protocol": mine[0].run.protocol,
            "probes": [one.run.probe for one in mine], "fingerprint": mine[0].run.fingerprint,
            "device": ", ".join(sorted({one.run.device for one in mine})),
            "seed": ", ".join(sorted({str(one.run.seed) for one in mine})),
            "commands": merged([one.run.command for one in mine]),
        }
        for _, mine in sorted(groups.items(), key=lambda item: item[0])
    ]  # fmt: skip
