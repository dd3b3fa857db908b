"""The ablation grid's paired differences follow from the ranks, and its intervals know both sources of chance."""

from __future__ import annotations

from pathlib import Path

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
        ("padding", "pad-0", [f"pad-{n}" for n in range(1, 6)]),
        ("token-padding", "shift-0", ["shift-40", "shift-80", "shift-160"]),
        ("swap", "first-2", ["swap-2", "first-only"]),
    ):
        conditions = [condition] if isinstance(condition, str) else condition
        lines = []
        for this in (base, *conditions):
            for direction in ("t2i", "i2t"):
                for query in range(QUERIES):
                    missed = this in conditions and query < number
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
            moved = measure.condition != "full"
            expected = -100 * number / QUERIES if moved else 0.0
            assert line["difference"] == pytest.approx(expected, abs=0.01)


def test_few_seeds_have_no_interval_and_five_have_that_of_the_seeds(tmp_path):
    scenes = load_dataset("scenes", split="validation")
    seeds = list(range(5))
    for name in GRID:
        for seed in seeds:
            write_probes(tmp_path, name, seed)
    for chosen in (seeds[:2], seeds):
        table = paired(Grid(tmp_path, {n: recipe_called(n) for n in GRID}, chosen, "", None, scenes, scenes))
        assert table["low"].isna().all() == (len(chosen) < 5)
    assert (table["low"] <= table["difference"]).all() and (table["difference"] <= table["high"]).all()
    assert all(len(values.split()) == 5 for values in table["values"])


def test_the_summary_is_mean_and_sample_deviation():
    lines = [
        {"recipe": "longclip", "seed": s, **{m.title: float(v) for m in MEASURES}} for s, v in ((0, 1), (1, 2), (2, 6))
    ]
    table = summary(pd.DataFrame(lines))
    assert set(table["mean"]) == {3.0} and set(table["spread"]) == {2.65} and set(table["values"]) == {"1.0 2.0 6.0"}
    assert set(wide(table).iloc[0, 1:]) == {"3.0 ± 2.6"}
