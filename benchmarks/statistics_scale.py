"""Time and memory of the rows of a probe: 8 conditions, both directions, two scopes, a million images.

    python benchmarks/statistics_scale.py [--images 1000000] [--conditions 8]

Queries are made up; what is measured is all that is done with them: credits, intervals, tests, corrections.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
import pandas as pd

from clipbias.probe.rows import rows_from_queries
from clipbias.probe.spec import Condition, Probe
from clipbias.probe.tables import repeated


def queries(generator: np.random.Generator, count: int, name: str, names: list[str]) -> list[pd.DataFrame]:
    """Both directions of a condition: geometric ranks, a tenth of the queries with a twin."""
    index = np.arange(count)
    cosine = generator.normal(0.3, 0.05, count).astype(np.float32)
    column = {
        "query": np.arange(count, dtype=np.int32), "cluster": np.arange(count, dtype=np.int32),
        "better": generator.geometric(0.6, count).astype(np.int32) - 1, "right": np.int32(1),
        "equal": (generator.random(count) < 0.1).astype(np.int32), "cosine": cosine, "margin": cosine / 10,
        "eligible": generator.random(count) < 0.9, "affected": True,
    }  # fmt: skip
    return [
        pd.DataFrame(
            {
                **column,
                "condition": repeated(pd.Index(names), name, index),
                "direction": repeated(pd.Index(("t2i", "i2t")), direction, index),
            }
        )
        for direction in ("t2i", "i2t")
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--conditions", type=int, default=8)
    given = parser.parse_args()
    generator = np.random.default_rng(0)
    names = [f"condition-{number}" for number in range(given.conditions)]
    parts = [part for name in names for part in queries(generator, given.images, name, names)]
    conditions = tuple(Condition(name, ()) for name in names)
    probe = Probe("p", "", "", "", names[0], conditions, "")
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    began, cpu = time.perf_counter(), time.process_time()
    rows = len(rows_from_queries(probe, parts, dict.fromkeys(names, (0.0, 0.0)), 0))
    wall, used = time.perf_counter() - began, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{given.images:,} images, {given.conditions} conditions: {rows} rows in {wall:.0f} s ({used:.0f} s of a core)"
    )
    print(f"peak memory {peak:.2f} GiB, of which {held:.2f} GiB for the table of queries and the libraries")


if __name__ == "__main__":
    main()
