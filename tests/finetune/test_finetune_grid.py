"""The ablation grid's paired differences follow from the ranks, and its intervals know both sources of chance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests_support import make_row, make_run

from clipbias.data.loading import load_dataset
from clipbias.finetune.ablation import GRID, MEASURES, Grid, paired, summary, wide
from clipbias.finetune.recipes import recipe_called
from clipbias.results.folder import run_folder, write_run
from clipbias.results.record import QUERY_COLUMNS

QUERIES = 30


def write_probes(out: Path, name: str, seed: int) -> None:
    """Runs in which recipe number r misses the first r + seed queries of a perturbed condition."""
    number = GRID.index(name) + seed
    for probe, base, condition in (
        ("drop-first", "full", "drop-first"),
        ("swap-1-4", "full", "swap-1-4"),
        ("padding", "pad-0", "pad-5"),
    ):
        lines = []
        for this in (base, condition):
            for direction in ("t2i", "i2t"):
                for query in range(QUERIES):
                    missed = this == condition and query < number
                    lines.append([this, direction, query, query, int(missed), 0, 1, 0.5, 0.1, True, True])
        table = pd.DataFrame(lines, columns=list(QUERY_COLUMNS))
        folder = run_folder(out / f"{name}-{seed}" / "probes", "model", "scenes", probe)
        write_run(folder, make_run(probe=probe), [make_row()], table)


def test_paired_differences_are_those_of_the_ranks(tmp_path):
    scenes = load_dataset("scenes", split="validation")
    grid = Grid(tmp_path, {n: recipe_called(n) for n in GRID}, [0, 1], "", None, scenes, scenes)
    for name in GRID:
        for seed in (0, 1):
            write_probes(tmp_path, name, seed)
    table = paired(grid).set_index(["measure", "recipe"])
    for measure in MEASURES:
        for number, name in enumerate(GRID[1:], 1):
            line = table.loc[measure.title, f"{name} against longclip"]
            expected = -100 * number / QUERIES if measure.field == "delta" else 0.0
            assert line["difference"] == pytest.approx(expected, abs=0.01)
            assert np.isnan(line["low"]) and len(line["values"].split()) == 2  # two seeds: no interval


def test_from_five_seeds_there_is_an_interval(tmp_path):
    scenes = load_dataset("scenes", split="validation")
    grid = Grid(tmp_path, {n: recipe_called(n) for n in GRID[:2]}, range(5), "", None, scenes, scenes)
    for name in GRID[:2]:
        for seed in range(5):
            write_probes(tmp_path, name, seed)
    for line in paired(grid).itertuples():
        assert line.low < line.difference < line.high


def test_the_summary_is_mean_and_sample_deviation():
    lines = [
        {"recipe": "longclip", "seed": s, **{m.title: float(v) for m in MEASURES}} for s, v in ((0, 1), (1, 2), (2, 6))
    ]
    table = summary(pd.DataFrame(lines))
    assert set(table["mean"]) == {3.0} and set(table["spread"]) == {2.65} and set(table["values"]) == {"1.0 2.0 6.0"}
    assert set(wide(table).iloc[0, 1:]) == {"3.0 ± 2.6"}
