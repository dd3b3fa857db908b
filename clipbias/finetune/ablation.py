"""The paper's ablation: every step between Long-CLIP's recipe and DeBias-CLIP's, over seeds, in one table."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from clipbias.data.dataset import RetrievalDataset
from clipbias.data.sentences import split_sentences
from clipbias.errors import NotApplicable
from clipbias.finetune.export import export_run
from clipbias.finetune.folder import training_lock
from clipbias.finetune.measures import MEASURES, SHORT_SPLIT, Measure, answered, apart, finished, hits, value
from clipbias.finetune.recipe import Recipe
from clipbias.finetune.recipes import PRETRAIN_NANO
from clipbias.finetune.runs import BUILT_IN, finetune, pretrain_nano, scenes_held_out, trainable
from clipbias.finetune.train import Progress
from clipbias.models.loading import load_model
from clipbias.probe.run import run_probe
from clipbias.probe.session import Session
from clipbias.probe.spec import find_probes
from clipbias.results.folder import Finished
from clipbias.shipped import WORLD

GRID = ("longclip", "longclip-weights", "long-only", "drop", "sample", "debias")
"""Long-CLIP, the losses' weights alone, no short caption; + summary removal, + sampling, + padding."""
BASE = "base"


STEPS = (
    ("longclip", BASE), ("longclip-weights", "longclip"), ("long-only", "longclip"), ("drop", "longclip-weights"),
    ("sample", "drop"), ("debias", "sample"),
)  # fmt: skip
"""Each recipe and the one that it changes in one thing."""


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
        base_recipe: of nano bases, the seed left open.
        short: short captions that the probes run on besides, or None.
        device: where everything is computed.
    """

    out: Path
    recipes: Mapping[str, Recipe]
    seeds: Sequence[int]
    base: str
    weights: Path | None
    data: RetrievalDataset
    test: RetrievalDataset
    command: str = "clipbias finetune ablation"
    base_recipe: Recipe = PRETRAIN_NANO
    short: RetrievalDataset | None = None
    device: str = "auto"


def run_grid(grid: Grid, progress: Callable[[str], Progress]) -> pd.DataFrame:
    """Train and probe what is missing, then the measures of everything.

    Args:
        grid: the runs.
        progress: a run's name -> the progress callback of its training.

    Returns:
        One line a run: ``recipe``, ``seed``, and the measures (`clipbias.finetune.measures`) by title; a measure that
        the test data cannot answer is left out.
    """
    lines = []
    for seed in grid.seeds:
        base = _base(grid, seed, progress)
        lines.append({"recipe": BASE, "seed": seed, **_measures(grid, *base, grid.out / f"{BASE}-{seed}")})
        for name, recipe in grid.recipes.items():
            folder = grid.out / f"{name}-{seed}"
            encoder = trainable(load_model(base[0], weights=base[1], device=grid.device))
            mine = recipe.override(seed=seed)
            with training_lock(folder):
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
    recipe = grid.base_recipe.override(seed=seed)
    told, scenes = progress(folder.name), grid.data if grid.data.name == WORLD else None
    model = pretrain_nano(recipe, folder, resume=True, progress=told, device=grid.device, dataset=scenes)
    return str(export_run(model, recipe, folder, grid.command, WORLD)), None


def _measures(grid: Grid, model: str, weights: Path | None, folder: Path) -> dict[str, float]:
    """The measures of one model; its probes' run folders are kept under ``folder/probes``."""
    encoder = load_model(model, weights=weights, device=grid.device)
    for data, split in ((grid.test, ""), (grid.short, SHORT_SPLIT)):
        if data is None:
            continue
        session = Session(encoder, data)
        for name in dict.fromkeys(m.probe for m in MEASURES if m.split == split):
            (probe,) = find_probes(name)
            with suppress(NotApplicable):  # its measures are left out
                run_probe(session, probe, folder / "probes", grid.command)
    runs = finished(folder / "probes")
    return {m.title: value(runs[m.probe, m.split], m) for m in answered(runs)}


def paired(grid: Grid) -> pd.DataFrame:
    """Each recipe against Long-CLIP's, against the one it changes in one thing, and against the base.

    On the same queries and seeds. Meant for test data with one caption an image, where queries are the independent
    units.

    Returns:
        Columns recipe, measure, difference (mean over seeds), low, high (`clipbias.stats.seeds`; empty with fewer
        seeds than it needs), values (a seed each).
    """
    names = [BASE, *grid.recipes]
    pairs = [(name, GRID[0]) for name in grid.recipes] + list(STEPS) + [(name, BASE) for name in grid.recipes]
    kept = [(a, b) for a, b in dict.fromkeys(pairs) if a != b and a in names and b in names]
    runs = {(name, seed): finished(grid.out / f"{name}-{seed}" / "probes") for name in names for seed in grid.seeds}
    out = []
    told = {name: answered(runs[name, grid.seeds[0]]) for name in names}
    seen: dict[tuple[int, Measure], pd.Series] = {}

    def read(one: Finished, measure: Measure) -> pd.Series:
        if (id(one), measure) not in seen:
            seen[id(one), measure] = hits(one, measure)
        return seen[id(one), measure]

    for measure in MEASURES:
        key = measure.probe, measure.split
        for name, reference in kept:
            if measure not in told[name] or measure not in told[reference]:
                continue
            first, second = ([runs[which, seed][key] for seed in grid.seeds] for which in (reference, name))
            each, interval = apart(first, second, measure, read)
            low, high = (interval.low, interval.high) if interval else (math.nan, math.nan)
            line = {"recipe": f"{name} against {reference}", "measure": measure.title}
            numbers = {"difference": each.mean(), "low": low, "high": high}
            values = " ".join(f"{one:+.{1 if abs(each).max() >= 1 else 3}f}" for one in each)
            out.append({**line, **{k: round(float(v), 3) for k, v in numbers.items()}, "values": values})
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
        part = part.dropna(axis="columns", how="all")
        for measure in (m.title for m in MEASURES if m.title in part):
            values = part.sort_values("seed")[measure].tolist()
            out.append(
                {
                    "recipe": recipe,
                    "measure": measure,
                    "mean": round(statistics.fmean(values), 3),
                    "spread": round(statistics.stdev(values), 3) if len(values) > 1 else None,
                    "runs": len(values),
                    "values": " ".join(_said(v) for v in values),
                }
            )
    return pd.DataFrame(out)


def wide(table: pd.DataFrame) -> pd.DataFrame:
    """`summary` for people: a line a recipe, "mean ± spread" a cell."""
    table = table.assign(
        cell=[
            _said(mean) if pd.isna(spread) else f"{_said(mean)} ± {_said(spread)}"
            for mean, spread in zip(table["mean"], table["spread"], strict=True)
        ]
    )
    order = list(dict.fromkeys(table["recipe"]))
    cells = table.pivot(index="recipe", columns="measure", values="cell")
    return cells.fillna("").loc[order, [m.title for m in MEASURES if m.title in cells]].reset_index()


def _said(number: float) -> str:
    """To a tenth from 10 on, smaller numbers to a hundredth."""
    return f"{number:.1f}" if abs(number) >= 10 else f"{number:.2f}"
