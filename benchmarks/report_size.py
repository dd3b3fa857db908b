"""`clipbias report` on 1,000,000 per-query rows from 20 models: seconds and peak memory (aims: 20 s, 2 GiB).

python benchmarks/report_size.py

The results are made up (ranks at random, no model is run) in the sizes that the retrieval probes of the `full` suite
leave on the built-in scenes, so that examples with their images are drawn as well.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from clipbias.data.loading import load_dataset
from clipbias.probe.spec import Probe, find_probes
from clipbias.results.folder import run_folder, write_run
from clipbias.results.record import SCHEMA, Row, Run

MODELS = 20
ROWS = 1_000_000


def queries(probe: Probe, count: int, seed: int) -> pd.DataFrame:
    """A per-query table of ``probe`` for ``count`` images with a caption each."""
    generator = np.random.default_rng(seed)
    parts = []
    for condition in probe.conditions:
        for direction in ("t2i", "i2t"):
            places = np.arange(count, dtype=np.int32)
            parts.append(
                pd.DataFrame(
                    {
                        "condition": condition.name,
                        "direction": direction,
                        "query": places,
                        "cluster": places,
                        "better": generator.geometric(0.5, count).astype(np.int32) - 1,
                        "equal": 0,
                        "right": 1,
                        "cosine": generator.uniform(0, 1, count).astype(np.float32),
                        "margin": generator.normal(0, 0.1, count).astype(np.float32),
                        "eligible": True,
                        "affected": condition.name != probe.baseline,
                    }
                )
            )
    return pd.concat(parts, ignore_index=True)


def rows(probe: Probe, table: pd.DataFrame) -> list[Row]:
    """Result rows that fit ``table``."""
    out = []
    for order, condition in enumerate(probe.conditions):
        base = condition.name == probe.baseline
        for direction in ("t2i", "i2t"):
            rank = 1 + table.loc[(table["condition"] == condition.name) & (table["direction"] == direction), "better"]
            for k in (1, 5, 10):
                for scope in ("eligible", "all"):
                    value = float((rank <= k).mean())
                    apart = (None, None, None) if base else (0.01, -0.01, 0.03)
                    out.append(
                        Row(
                            probe.name, condition.name, order, condition.x, None if base else probe.baseline, direction,
                            f"recall@{k}", scope, value, value - 0.02, value + 0.02, "made up", None if base else value,
                            *apart, None, None, len(rank), len(rank), 0, len(rank), len(rank), 0.0, 0.0,
                        )
                    )  # fmt: skip
    return out


def write_results(folder: Path) -> int:
    """Fill ``folder``; returns the number of per-query rows."""
    dataset = load_dataset("scenes")
    count = len(dataset.captions)
    probes = [
        p for p in find_probes("all") if p.kind == "retrieval" and all(c.captions == "long" for c in p.conditions)
    ]
    written = 0
    for number in range(MODELS):
        model = f"model-{number:02}"
        mine = 0
        for probe in probes:
            if mine >= ROWS / MODELS:
                break
            table = queries(probe, count, number)
            run = Run(
                SCHEMA, probe.name, probe.text, probe.title, model, "made up", model, {}, dataset.name, dataset.split,
                dataset.fingerprint, dataset.protocol, count, count, 0, 77, "", "", "fp32", "cpu", 0, 0.0, "", "", {},
                "", False,
            )  # fmt: skip
            write_run(run_folder(folder, model, dataset.name, probe.name), run, rows(probe, table), table)
            mine += len(table)
        written += mine
    return written


MEASURED = """
import resource, sys
from pathlib import Path
from clipbias.report.build import build_report
build_report([Path(sys.argv[1])], Path(sys.argv[2]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results"
        count = write_results(results)
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", MEASURED, str(results), str(Path(folder) / "figures")],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        seconds = time.perf_counter() - began
    print(f"{count:,} per-query rows, {MODELS} models: {seconds:.1f} s, peak {float(done.stdout):.2f} GiB")


if __name__ == "__main__":
    main()
