"""The paper's ablation: every step between Long-CLIP's recipe and DeBias-CLIP's, over seeds, in one table."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from clipbias.data.dataset import RetrievalDataset
from clipbias.data.sentences import split_sentences
from clipbias.errors import UserError
from clipbias.finetune.export import export_run
from clipbias.finetune.recipe import Recipe
from clipbias.finetune.recipes import PRETRAIN_NANO, PRETRAIN_NANO_2
from clipbias.finetune.runs import BUILT_IN, finetune, pretrain_nano, scenes_held_out, trainable
from clipbias.finetune.train import Progress
from clipbias.models.loading import load_model
from clipbias.probe.run import run_probe
from clipbias.probe.session import Session
from clipbias.probe.spec import find_probes
from clipbias.results.folder import load_runs, read_rows, top1
from clipbias.results.record import Row
from clipbias.stats.seeds import over_seeds

GRID = ("longclip", "longclip-weights", "long-only", "drop", "sample", "debias")
"""Long-CLIP, the losses' weights alone, no short caption; + summary removal, + sampling, + padding."""
BASE = "base"


@dataclass(frozen=True)
class Measure:
    """A column of the table: a field of one row of a probe, in percent (points for a delta)."""

    title: str
    probe: str
    condition: str
    direction: str
    field: str = "value"


MEASURES = (
    Measure("T2I R@1", "drop-first", "full", "t2i"),
    Measure("I2T R@1", "drop-first", "full", "i2t"),
    Measure("drop first, T2I change", "drop-first", "drop-first", "t2i", "delta"),
    Measure("swap 1-4, T2I change", "swap-1-4", "swap-1-4", "t2i", "delta"),
    *(Measure(f"{n} padding sentences, T2I change", "padding", f"pad-{n}", "t2i", "delta") for n in range(1, 6)),
    *(Measure(f"{n} pads, T2I change", "token-padding", f"shift-{n}", "t2i", "delta") for n in (40, 80, 160)),
    Measure("swap of two, I2T change", "swap", "swap-2", "i2t", "delta"),
    Measure("first only, I2T", "swap", "first-only", "i2t"),
)


@dataclass(frozen=True)
class Grid:
    """What an ablation trains and measures.

    Attributes:
        out: one folder a run, ``<recipe>-<seed>``; finished runs in it are picked up, cut ones continued.
        recipes: recipe name -> recipe, the seed left open.
        seeds: a training each.
        base: the model to start from; "" trains a nano base for each seed (``base-<seed>``).
        weights: the base's checkpoint file, where it is not the catalogue's.
        data: the training data.
        test: the data the probes run on.
        command: makes it again.
        lead_dose: of the corpus of nano bases of scenes-2.
    """

    out: Path
    recipes: Mapping[str, Recipe]
    seeds: Sequence[int]
    base: str
    weights: Path | None
    data: RetrievalDataset
    test: RetrievalDataset
    command: str = "clipbias finetune ablation"
    lead_dose: float = PRETRAIN_NANO_2.lead_dose


def run_grid(grid: Grid, progress: Callable[[str], Progress]) -> pd.DataFrame:
    """Train and probe what is missing, then the measures of everything.

    Args:
        grid: the runs.
        progress: a run's name -> the progress callback of its training.

    Returns:
        One line a run: ``recipe``, ``seed``, and `MEASURES` by title.
    """
    lines = []
    for seed in grid.seeds:
        base = _base(grid, seed, progress)
        lines.append({"recipe": BASE, "seed": seed, **_measures(grid, *base, grid.out / f"{BASE}-{seed}")})
        for name, recipe in grid.recipes.items():
            folder = grid.out / f"{name}-{seed}"
            encoder = trainable(load_model(base[0], weights=base[1]))
            mine = recipe.override(seed=seed)
            model = finetune(
                encoder,
                grid.data,
                mine,
                folder,
                split_sentences,
                resume=True,
                progress=progress(folder.name),
                held_out=scenes_held_out(grid.data.name) if grid.data.name in BUILT_IN else None,
            )
            path = export_run(model, mine, folder, grid.command, grid.data.name, encoder)
            lines.append({"recipe": name, "seed": seed, **_measures(grid, str(path), None, folder)})
    return pd.DataFrame(lines)


def _base(grid: Grid, seed: int, progress: Callable[[str], Progress]) -> tuple[str, Path | None]:
    """Name and weights of the model that this seed's trainings start from."""
    if grid.base:
        return grid.base, grid.weights
    folder = grid.out / f"{BASE}-{seed}"
    recipe = PRETRAIN_NANO_2 if grid.data.name == "scenes-2" else PRETRAIN_NANO
    recipe = recipe.override(seed=seed, lead_dose=grid.lead_dose)
    model = pretrain_nano(recipe, folder, resume=True, progress=progress(folder.name), data=grid.data.name)
    return str(export_run(model, recipe, folder, grid.command, grid.data.name)), None


def _measures(grid: Grid, model: str, weights: Path | None, folder: Path) -> dict[str, float]:
    """The measures of one model; its probes' run folders are kept under ``folder/probes``."""
    session = Session(load_model(model, weights=weights), grid.test)
    rows = {}
    for name in dict.fromkeys(m.probe for m in MEASURES):
        (probe,) = find_probes(name)
        rows[name] = read_rows(run_probe(session, probe, folder / "probes", grid.command))
    return {m.title: 100 * _pick(rows[m.probe], m) for m in MEASURES}


def _pick(rows: Sequence[Row], measure: Measure) -> float:
    for row in rows:
        if (row.condition, row.direction, row.metric) == (measure.condition, measure.direction, "recall@1"):
            value = getattr(row, measure.field)
            if row.scope == "eligible" and value is not None:
                return float(value)
    raise UserError(f"probe {measure.probe} has no eligible caption for condition {measure.condition!r}")


def _hits(grid: Grid, name: str, seed: int, measure: Measure) -> pd.Series:
    """Top-1 hits (0 or 1) of a measure's eligible queries, or their change from its baseline, by query."""
    results = grid.out / f"{name}-{seed}" / "probes"
    (table,) = (one.queries for one in load_runs([results]) if one.run.probe == measure.probe)
    chosen = top1(table[table["eligible"]], measure.condition, measure.direction)
    if measure.field == "value":
        return chosen
    (probe,) = find_probes(measure.probe)
    return chosen - top1(table, probe.baseline, measure.direction).loc[chosen.index]


def paired(grid: Grid, reference: str = GRID[0]) -> pd.DataFrame:
    """Each recipe against ``reference`` on the same queries and seeds, in points.

    Meant for test data with one caption an image, where queries are the independent units.

    Returns:
        Columns recipe, measure, difference (mean over seeds), low, high (`clipbias.stats.seeds.over_seeds`;
        empty with fewer seeds than it needs), values (a seed each).
    """
    out = []
    for measure in MEASURES:
        first = np.stack([_hits(grid, reference, seed, measure).to_numpy() for seed in grid.seeds])
        for name in grid.recipes:
            if name == reference:
                continue
            apart = np.stack([_hits(grid, name, seed, measure).to_numpy() for seed in grid.seeds]) - first
            interval = over_seeds(apart, bound=2.0 if measure.field == "delta" else 1.0)
            low, high = (interval.low, interval.high) if interval else (math.nan, math.nan)
            each = " ".join(f"{100 * value:+.1f}" for value in apart.mean(axis=1))
            line = {"recipe": f"{name} against {reference}", "measure": measure.title}
            numbers = {"difference": 100 * apart.mean(), "low": 100 * low, "high": 100 * high}
            out.append({**line, **{k: round(float(v), 2) for k, v in numbers.items()}, "values": each})
    return pd.DataFrame(out)


def summary(runs: pd.DataFrame) -> pd.DataFrame:
    """One line a recipe and measure: mean and spread over seeds, tidy.

    Args:
        runs: as `run_grid` returns it.

    Returns:
        Columns recipe, measure, mean, spread (sample standard deviation; empty for one seed), runs,
        values (a run each, by seed).
    """
    out = []
    for recipe, part in runs.groupby("recipe", sort=False):
        for measure in (m.title for m in MEASURES):
            values = part.sort_values("seed")[measure].tolist()
            out.append(
                {
                    "recipe": recipe,
                    "measure": measure,
                    "mean": round(statistics.fmean(values), 2),
                    "spread": round(statistics.stdev(values), 2) if len(values) > 1 else None,
                    "runs": len(values),
                    "values": " ".join(f"{v:.1f}" for v in values),
                }
            )
    return pd.DataFrame(out)


def wide(table: pd.DataFrame) -> pd.DataFrame:
    """`summary` for people: a line a recipe, "mean ± spread" a cell."""
    table = table.assign(
        cell=[
            f"{mean:.1f}" if pd.isna(spread) else f"{mean:.1f} ± {spread:.1f}"
            for mean, spread in zip(table["mean"], table["spread"], strict=True)
        ]
    )
    order = list(dict.fromkeys(table["recipe"]))
    cells = table.pivot(index="recipe", columns="measure", values="cell")
    return cells.loc[order, [m.title for m in MEASURES]].reset_index()
