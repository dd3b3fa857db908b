"""H9 of docs/experiment.md without the trainings of dose 0: from their committed table, as a line of Markdown.

    python benchmarks/dose.py runs/experiment/dose-0.3

What padding costs each seed's base at dose 0 stands in leaderboards/ablation-scenes-2.csv. The interval (95%) is over
seeds, by the differences of the same seeds, and over queries, by those of the seed that ships, whose queries are in
leaderboards/results; they count in full (`clipbias.stats.seeds.from_estimates`). With the runs of both doses at hand,
`benchmarks/hypotheses.py --other-dose` takes all queries.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
from hypotheses import PADDING, TABLE_HEAD, line
from ship import NAMES, measure_called

from clipbias.finetune.ablation import BASE
from clipbias.finetune.measures import finished, hits, value
from clipbias.names import from_csv
from clipbias.stats.seeds import from_estimates

BOARDS = Path(__file__).parents[1] / "leaderboards"
SHIPPED_SEED = 6


def committed(table: Path, measure: str) -> list[float]:
    """The base's value of each seed, from 0 on, in points."""
    with table.open(encoding="utf-8", newline="") as file:
        (cell,) = (row["values"] for row in csv.DictReader(file) if (row["recipe"], row["measure"]) == (BASE, measure))
    return [float(one) for one in from_csv(cell).split()]


def report(other: Path, boards: Path = BOARDS) -> str:
    """The hypothesis's line."""
    measure = measure_called(PADDING)
    (shipped,) = (boards / "results").glob(f"{NAMES[BASE]}@*")
    before = committed(boards / "ablation-scenes-2.csv", PADDING)
    led = [finished(other / f"{BASE}-{seed}" / "probes")[measure.probe, measure.split] for seed in range(len(before))]
    each = np.array(before) - [value(one, measure) for one in led]
    at_zero = hits(finished(shipped)[measure.probe, measure.split], measure)
    apart = 100 * (at_zero - hits(led[SHIPPED_SEED], measure)).dropna()
    interval = from_estimates(each, float(apart.var(ddof=1)) / len(apart))
    return "\n".join([*TABLE_HEAD, line("H9", "base, padding, dose 0 minus 0.3", "below", each, interval)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    print(report(parser.parse_args().runs))


if __name__ == "__main__":
    main()
