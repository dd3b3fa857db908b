"""The benchmark for GPUs runs from end to end on a CPU, so that it is ready where there is one."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import numpy as np
import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.filterwarnings("ignore")
def test_the_gpu_benchmark_fills_every_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    importlib.import_module("gpu").main(["--tiny"])
    printed = capsys.readouterr().out
    tables = {part.partition("\n")[0]: part.partition("\n")[2] for part in printed.split("### ")[1:]}
    rows = {title: [line for line in text.splitlines() if line.startswith("| ")][1:] for title, text in tables.items()}
    assert [len(lines) for lines in rows.values()] == [2, 1, 2, 4, 1]
    assert "does not fit" not in printed and printed.rstrip().endswith("s in all")
    fed = [cell.strip() for cell in list(rows.values())[4][0].strip("| ").split("|")]
    assert fed[0] == "8" and float(fed[1].replace(",", "")) > 0 and 0 <= int(fed[2].rstrip("%")) <= 100
    steps = [[cell.strip() for cell in line.strip("| ").split("|")] for line in list(rows.values())[3]]
    assert [cells[2] for cells in steps] == ["Long-CLIP", "DeBias-CLIP", "plain loop", "open_clip, long captions only"]
    for cells in steps:
        samples, milliseconds, hours, cost = (float(cells[n].replace(",", "")) for n in (3, 4, 7, 8))
        speed = 8000 / milliseconds  # 8 samples a step; printed as a whole number
        assert samples == pytest.approx(speed, rel=0.02, abs=0.6)
        assert hours == pytest.approx(3 * 1_246_901 / speed / 3600, rel=0.02, abs=0.1)
        assert cost == pytest.approx(3 * hours, abs=0.1)
    assert re.search(r"captions, \d+ dimensions", " ".join(tables))


def test_the_step_of_the_nano_models_is_timed_in_both_ways(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    threads = torch.get_num_threads()
    try:
        importlib.import_module("nano_step").main(["--steps", "1", "--samples", "4"])
    finally:
        torch.set_num_threads(threads)
    lines = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert [line[:2] for line in lines] == [
        [recipe, f"{way}, fp32"] for recipe in ("longclip", "debias") for way in ("plain", "packed")
    ]
    for _, _, seconds, samples, _ in lines:
        assert float(samples) == pytest.approx(4 / float(seconds), rel=0.1, abs=0.6)


def test_the_ways_to_rank_that_the_suite_times_agree(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    suite = importlib.import_module("suite")
    monkeypatch.setattr(suite, "_reset_peak", lambda: 0.0)
    monkeypatch.setattr(suite, "_peak", lambda: 0.0)
    found = {}
    for way in ("clipbias", "matrix", "sorted rows"):
        suite.ranks(way, "200", "1000", str(tmp_path / f"{way}.npz"))
        with np.load(tmp_path / f"{way}.npz") as ranks:
            found[way] = ranks["t2i"].tolist(), ranks["i2t"].tolist()
    assert found["clipbias"] == found["matrix"] == found["sorted rows"] and max(found["matrix"][0]) > 1


def test_the_seed_that_ships_is_the_median(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    median_seed = importlib.import_module("ship").median_seed
    assert median_seed({0: 5.0, 1: -1.0, 2: 3.0}) == 2
    assert median_seed({4: 1.0, 5: 2.0, 6: 3.0, 7: 9.0}) == 5 and median_seed({3: 1.0, 1: 1.0}) == 1
