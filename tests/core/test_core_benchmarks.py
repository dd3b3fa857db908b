"""The benchmark for GPUs runs from end to end on a CPU, so that it is ready where there is one."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.filterwarnings("ignore")
def test_the_gpu_benchmark_fills_every_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    importlib.import_module("gpu").main(["--tiny"])
    printed = capsys.readouterr().out
    tables = {part.partition("\n")[0]: part.partition("\n")[2] for part in printed.split("### ")[1:]}
    rows = {title: [line for line in text.splitlines() if line.startswith("| ")][1:] for title, text in tables.items()}
    assert [len(lines) for lines in rows.values()] == [2, 1, 2, 4]
    assert "does not fit" not in printed and printed.rstrip().endswith("s in all")
    steps = [[cell.strip() for cell in line.strip("| ").split("|")] for line in list(rows.values())[3]]
    assert [cells[2] for cells in steps] == ["Long-CLIP", "DeBias-CLIP", "plain loop", "open_clip, long captions only"]
    for cells in steps:
        samples, milliseconds, hours, cost = (float(cells[n].replace(",", "")) for n in (3, 4, 7, 8))
        speed = 8000 / milliseconds  # 8 samples a step; printed as a whole number
        assert samples == pytest.approx(speed, rel=0.02, abs=0.6)
        assert hours == pytest.approx(3 * 1_246_901 / speed / 3600, rel=0.02, abs=0.1)
        assert cost == pytest.approx(3 * hours, abs=0.1)
    assert re.search(r"captions, \d+ dimensions", " ".join(tables))


def test_the_seed_that_ships_is_the_median(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    median_seed = importlib.import_module("ship").median_seed
    assert median_seed({0: 5.0, 1: -1.0, 2: 3.0}) == 2
    assert median_seed({4: 1.0, 5: 2.0, 6: 3.0, 7: 9.0}) == 5 and median_seed({3: 1.0, 1: 1.0}) == 1
