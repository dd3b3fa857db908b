"""The ablation grid's paired differences follow from the ranks, and its intervals know both sources of chance."""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import shutil
import signal
import threading
import time
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import processes
import pytest
import torch
from tests_support import THOROUGH, make_row, make_run

from clipbias.data.loading import load_dataset
from clipbias.errors import UserError
from clipbias.finetune.ablation import BASE, GRID, STEPS, Grid, paired, summary, wide
from clipbias.finetune.grids import AskedGrid, run_seeds
from clipbias.finetune.measures import MEASURES, SHORT_SPLIT, answered, finished, value
from clipbias.finetune.recipes import recipe_called
from clipbias.finetune.trajectory import trajectory
from clipbias.probe.measure import no_queries
from clipbias.results.folder import load_runs, run_folder, write_run
from clipbias.results.record import QUERY_COLUMNS
from clipbias.scenes import long_caption, render, sample_scene
from clipbias.stats.intervals import Interval

QUERIES = 30


ROWS = {
    "needle": "needle_half_depth",
    "attention": "first_sentence_concentration",
    "influence": "first_sentence_influence",
}
NAMES = (BASE, *GRID)
WRITTEN = TemporaryDirectory(prefix="clipbias-grid-")


def write_probes(out: Path, name: str, seed: int) -> None:
    """Runs in which model number r misses the first r + seed queries of a perturbed condition."""
    shutil.copytree(written(NAMES.index(name) + seed), out / f"{name}-{seed}" / "probes")


@cache
def written(number: int) -> Path:
    """Runs of a model that misses so many queries, written once a process: hundreds of them are asked for."""
    out = Path(WRITTEN.name) / str(number)
    for probe, base, condition in (
        ("drop-first", "full", ["drop-first"]),
        ("first-only", "full", ["first-only"]),
        ("swap-1-4", "full", ["swap-1-4"]),
        ("padding", "pad-0", [f"pad-{n}" for n in range(1, 6)]),
        ("token-padding", "shift-0", ["shift-40", "shift-80", "shift-160"]),
        ("swap", "first-2", ["swap-2", "first-only"]),
    ):
        lines = []
        for this in (base, *condition):
            for direction in ("t2i", "i2t"):
                for query in range(QUERIES):
                    missed = this != base and query < number
                    lines.append([this, direction, query, query, int(missed), 0, 1, 0.5, 0.1, True, True])
        table = pd.DataFrame(lines, columns=list(QUERY_COLUMNS))
        split = SHORT_SPLIT if probe == "first-only" else "test"
        folder = run_folder(out, "model", "scenes", probe)
        rows = [
            make_row(probe=probe, condition=this, x=float(x), baseline=base if x else None, direction="t2i")
            for x, this in enumerate((base, *condition))
        ]
        write_run(folder, make_run(probe=probe, split=split), rows, table)
    for probe, metric in ROWS.items():
        (condition,) = next(m.conditions for m in MEASURES if m.metric == metric)
        row = make_row(
            probe=probe, condition=condition, direction="", metric=metric, value=1.0 + number, low=number + 0.902,
            high=number + 1.098,
        )  # fmt: skip
        write_run(run_folder(out, "model", "scenes", probe), make_run(probe=probe), [row], no_queries())
    return out


def grid_of(out: Path, seeds: list[int], recipes: tuple[str, ...] = GRID) -> Grid:
    scenes = load_dataset("scenes", split="validation")
    return Grid(out, {n: recipe_called(n) for n in recipes}, seeds, "", None, scenes, scenes)


def write_all(out: Path, seeds: list[int]) -> None:
    for name in NAMES:
        for seed in seeds:
            write_probes(out, name, seed)


def test_paired_differences_are_those_of_the_ranks(tmp_path):
    write_all(tmp_path, [0, 1])
    table = paired(grid_of(tmp_path, [0, 1])).set_index(["measure", "recipe"])
    assert {name for _, name in table.index} == {
        *(f"{name} against longclip" for name in GRID[1:]),
        *(f"{name} against base" for name in GRID),
        *(f"{name} against {before}" for name, before in STEPS),
    }
    for measure in MEASURES:
        if measure.metric == "page":
            continue
        for recipe in {name for _, name in table.index}:
            name, reference = recipe.split(" against ")
            further = NAMES.index(name) - NAMES.index(reference)
            moved = measure.conditions != ("full",)
            expected = (-100 * further / QUERIES if moved else 0.0) if measure.metric == "recall@1" else further
            assert table.loc[(measure.title, recipe), "difference"] == pytest.approx(expected, abs=0.001), measure


def test_few_seeds_have_no_interval_and_five_have_that_of_the_seeds(tmp_path):
    seeds = list(range(5))
    for name in (BASE, "longclip", "debias"):
        for seed in seeds:
            write_probes(tmp_path, name, seed)
    for chosen in (seeds[:2], seeds):
        table = paired(grid_of(tmp_path, chosen, ("longclip", "debias")))
        table = table[~table["measure"].str.contains("Page")]
        assert table["low"].isna().all() == (len(chosen) < 5)
    assert (table["low"] <= table["difference"]).all() and (table["difference"] <= table["high"]).all()
    assert all(len(values.split()) == 5 for values in table["values"])
    # No spread over seeds: what is left is the captions', of the two rows together.
    needle = table[table["measure"].str.contains("needle")].iloc[0]
    assert needle["high"] - needle["difference"] == pytest.approx(1.96 * np.sqrt(2) * 0.05, rel=0.01)


def test_a_trend_over_padding_sentences_is_pages(tmp_path):
    write_probes(tmp_path, "debias", 0)
    runs = finished(tmp_path / "debias-0" / "probes")
    (measure,) = (m for m in MEASURES if m.metric == "page")
    # Every padded condition misses the same queries: there is no trend.
    assert value(runs["padding", ""], measure) == 0.0


def test_measures_that_the_data_cannot_answer_are_left_out(tmp_path):
    write_probes(tmp_path, "debias", 0)
    runs = finished(tmp_path / "debias-0" / "probes")
    assert answered(runs) == MEASURES
    left = answered({key: one for key, one in runs.items() if key[0] not in ("needle", "first-only")})
    assert {m.title for m in MEASURES} - {m.title for m in left} == {"needle, half-depth", "short captions, T2I R@1"}


def test_a_probe_of_other_data_in_the_same_folder_is_refused_not_mixed(tmp_path):
    write_probes(tmp_path, "debias", 0)
    folder = tmp_path / "debias-0" / "probes"
    (one,) = (run for run in load_runs([folder]) if run.run.probe == "drop-first")
    write_run(folder / "other", replace(one.run, data_fingerprint="f" * 64), one.rows, one.queries)
    with pytest.raises(UserError, match="drop-first is there twice, of another version of the data"):
        finished(folder)


@pytest.fixture
def few(tmp_path):
    """Five scenes as files."""
    folder = tmp_path / "data"
    folder.mkdir()
    for i in range(5):
        render(sample_scene("test", i)).save(folder / f"{i:02}.png")
        (folder / f"{i:02}.txt").write_text(" ".join(s.text for s in long_caption(sample_scene("test", i))))
    return folder


def test_seeds_in_processes_of_their_own_give_the_bytes_of_one_after_another(tmp_path, few, monkeypatch):
    if not THOROUGH:  # processes that import nothing anew
        context = processes.context()
        monkeypatch.setattr("clipbias.finetune.grids.multiprocessing.get_context", lambda _: context)
    quick = {"steps": 2, "batch_size": 4, "validation": 0, "workers": 1, "pca_dim": 2}
    recipes = {name: recipe_called(name).override(**quick) for name in ("debias",)}
    threads, tables, seen = torch.get_num_threads(), [], []
    torch.set_num_threads(1)
    try:
        for count in (1, 2):
            out = tmp_path / str(count)
            asked = AskedGrid(out, recipes, (0, 1), "nano-longclip", None, str(few), None, str(few), device="cpu")
            tables.append(run_seeds(asked, count, lambda name: lambda *_: None, lambda n, of: seen.append((n, of))))
    finally:
        torch.set_num_threads(threads)
    assert seen == [(1, 2), (2, 2)]
    pd.testing.assert_frame_equal(tables[0], tables[1], check_exact=True)
    assert len(tables[0]) == 4 and tables[0]["seed"].tolist() == [0, 0, 1, 1]
    for name in ("debias-0", "debias-1"):
        one, two = (torch.load(tmp_path / k / name / "state.pt", weights_only=True)["model"] for k in ("1", "2"))
        assert all(torch.equal(one[key], two[key]) for key in one)
        (mine,), (theirs,) = (list((tmp_path / k / name / "probes").rglob("padding/rows.jsonl")) for k in ("1", "2"))
        assert mine.read_bytes() == theirs.read_bytes()


def test_an_interrupted_grid_ends_its_processes_with_their_states_saved(tmp_path, few, monkeypatch):
    context = processes.context()
    monkeypatch.setattr("clipbias.finetune.grids.multiprocessing.get_context", lambda _: context)
    endless = {"steps": 100_000, "batch_size": 4, "validation": 0, "workers": 1, "pca_dim": 2}
    recipes = {"debias": recipe_called("debias").override(**endless)}
    asked = AskedGrid(tmp_path / "out", recipes, (0, 1), "nano-longclip", None, str(few), None, str(few), device="cpu")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupt() -> None:
        while len(list((tmp_path / "out").glob("debias-*/metrics.jsonl"))) < 2:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)  # this process alone, as a scheduler's SIGTERM

    threading.Thread(target=interrupt, daemon=True).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            run_seeds(asked, 2, lambda name: lambda *_: None)
    finally:
        signal.signal(signal.SIGINT, before)
    assert not [child for child in multiprocessing.active_children() if child.is_alive()]
    for seed in (0, 1):
        state = torch.load(tmp_path / "out" / f"debias-{seed}" / "state.pt", weights_only=True)
        assert 0 < state["step"] < 100_000


def test_what_a_seeds_process_raises_is_raised_here(tmp_path, few, monkeypatch):
    context = processes.context()
    monkeypatch.setattr("clipbias.finetune.grids.multiprocessing.get_context", lambda _: context)
    recipes = {"debias": recipe_called("debias").override(steps=2, batch_size=400)}
    asked = AskedGrid(tmp_path / "out", recipes, (0, 1), "nano-longclip", None, str(few), None, str(few), device="cpu")
    with pytest.raises(UserError, match="400"):
        run_seeds(asked, 2, lambda name: lambda *_: None)
    assert not [child for child in multiprocessing.active_children() if child.is_alive()]


def test_the_summary_is_mean_and_sample_deviation():
    lines = [
        {"recipe": "longclip", "seed": s, **{m.title: float(v) for m in MEASURES}} for s, v in ((0, 1), (1, 2), (2, 6))
    ]
    table = summary(pd.DataFrame(lines))
    assert set(table["mean"]) == {3.0} and set(table["spread"]) == {2.646}
    assert set(table["values"]) == {"1.00 2.00 6.00"}
    assert set(wide(table).iloc[0, 1:]) == {"3.00 ± 2.65"}


def test_the_trajectory_counts_a_fine_tunings_steps_on_from_its_bases(tmp_path):
    names = ("", "drop-first_", "pad-0_", "pad-1_", "pad-5_")
    points = {"base-3": {9: (0.2, 0.1, 0.3, 0.3, 0.25)}, "drop-3": {4: (0.5, 0.4, 0.6, 0.5, 0.35)}}
    for folder, found in points.items():
        (tmp_path / folder).mkdir()
        lines = [{"step": step, "loss": 1.0} for step in range(max(found))]
        for step, values in found.items():
            line = {f"validation_{n}t2i_recall@1": v for n, v in zip(names, values, strict=True)}
            lines.append({"step": step, **line})
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (tmp_path / folder / "metrics.jsonl").write_text(text)
    data = load_dataset("scenes", split="validation")
    grid = Grid(tmp_path, {"drop": recipe_called("drop")}, (3,), "", None, data, data)
    table = trajectory(grid).set_index(["recipe", "step", "measure"])["value"]
    drop, five = "drop first, T2I change", "5 padding sentences, T2I change"
    assert table["base", 10, "full captions, T2I R@1"] == 20 and table["drop", 15, "full captions, T2I R@1"] == 50
    assert table["base", 10, drop] == table["drop", 15, drop] == -10
    assert table["base", 10, five] == -5 and table["drop", 15, five] == -25 and len(table) == 8
    given = trajectory(replace(grid, base="nano-clip"))
    assert set(given["recipe"]) == {"drop"} and set(given["step"]) == {5}
    (tmp_path / "drop-3" / "metrics.jsonl").write_text('{"step": "4"}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl: a line holds something else than numbers"):
        trajectory(grid)


def test_the_dose_is_told_from_the_committed_table(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    told = importlib.import_module("dose")
    # At dose 0 a base of seed s misses s + 3 of 30 queries under padding, at the other dose s.
    for seed in range(8):
        write_probes(tmp_path / "other", BASE, seed)
    boards = tmp_path / "boards"
    write_probes(boards / "results", BASE, told.SHIPPED_SEED + 3)
    (boards / "results" / f"base-{told.SHIPPED_SEED + 3}" / "probes").rename(boards / "results" / "nano-clip@1")
    values = " ".join(f"{-100 * (seed + 3) / QUERIES:.3f}" for seed in range(8))
    (boards / "ablation-scenes-2.csv").write_text(
        f'recipe,measure,values\nbase,"{told.PADDING}",\'{values}\ndebias,"{told.PADDING}",1 2\n'
    )
    cells = [cell.strip() for cell in told.report(tmp_path / "other", boards).splitlines()[-1].strip("|").split("|")]
    # All seeds differ by -10 points, so queries alone make the interval: 3 of 30 are -100 points, the others 0.
    error = (QUERIES * 100**2 * 0.1 * 0.9 / (QUERIES - 1) / QUERIES) ** 0.5
    assert cells[3:7] == [
        "-10.0",
        f"{-10 - 1.96 * error:+.1f} to {-10 + 1.96 * error:+.1f}",
        "8 of 8 below",
        "not shown",
    ]


def test_the_hypotheses_are_told_by_their_intervals(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    told = importlib.import_module("hypotheses")
    seeds = [6, 7, 8, 9, 10]
    write_all(tmp_path / "a", [*seeds, 11])
    shutil.rmtree(tmp_path / "a" / "sample-11")  # not complete: does not count
    for seed in seeds:
        write_probes(tmp_path / "b", BASE, seed + 3)
        (tmp_path / "b" / f"base-{seed + 3}").rename(tmp_path / "b" / f"to-{seed}")
    for seed in seeds:
        (tmp_path / "b" / f"to-{seed}").rename(tmp_path / "b" / f"base-{seed}")
        (tmp_path / "b" / f"base-{seed}" / "model.pt").touch()
    text = told.report(tmp_path / "a", tmp_path / "b")
    assert text.startswith("Seeds 6, 7, 8, 9, 10;")
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()[4:]]
    by = {(cells[0], cells[1].split(",")[0]): cells for cells in lines}
    # A base of seed s misses s of 30 queries under padding; each recipe one more; the other dose's three more.
    assert [cells[3] for cells in lines[:1]] == ["-26.7"]
    assert [cells[6] for cells in lines if cells[0] == "H1"] == ["yes", "not shown"]
    assert by["H2", "padding"][3] == "-16.7" and by["H2", "padding"][5] == "0 of 5 above"
    assert by["H6", "full captions"][3:7:3] == ["+0.0", "not shown"]
    assert by["H7", "short captions"][6] == "not contradicted"
    assert by["H9", "base"][3] == "+10.0"
    assert told.verdict(None, "above") == "too few seeds"
    high, low = Interval(2.0, 1.0, 3.0), Interval(-2.0, -3.0, -1.0)
    assert [told.verdict(one, "above") for one in (high, low)] == ["yes", "no"]
    assert [told.verdict(one, "below") for one in (high, low)] == ["no", "yes"]
    assert [told.verdict(one, "not below") for one in (high, low)] == ["yes", "no"]
