"""Choose the seed that ships from the runs of docs/experiment.md, and write its models as the packaged ones.

    python benchmarks/ship.py runs/experiment/dose-0.0 [--out clipbias/weights]

The rule was written down before the runs: of the seeds that have every model, the one whose difference between
DeBias-CLIP's and Long-CLIP's recipe under drop-first (T2I R@1) is the median; of an even number the lower one. It is
printed with the difference of every seed.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from clipbias.files import write_text
from clipbias.finetune.ablation import BASE, GRID
from clipbias.finetune.export import write_small
from clipbias.finetune.measures import MEASURES, Measure, finished, value
from clipbias.shipped import shipped

NAMES = {BASE: "nano-clip", **{name: f"nano-{name}" for name in ("longclip", "drop", "sample", "debias")}}


def median_seed(differences: Mapping[int, float]) -> int:
    """The seed of the median difference; of an even number of seeds the lower of the two in the middle."""
    by_size = sorted(differences, key=lambda seed: (differences[seed], seed))
    return by_size[(len(by_size) - 1) // 2]


def complete_seeds(runs: Path) -> list[int]:
    """The seeds whose models are all trained and probed."""
    seeds = sorted(int(folder.name.rpartition("-")[2]) for folder in runs.glob(f"{BASE}-*"))
    short = measure_called("short captions, T2I R@1")  # what is probed last
    there = {s: [runs / f"{name}-{s}" / "probes" for name in (BASE, *GRID)] for s in seeds}
    return [
        s
        for s in seeds
        if all(folder.is_dir() and (short.probe, short.split) in finished(folder) for folder in there[s])
    ]


def measure_called(title: str) -> Measure:
    """The ablation's measure of that title."""
    (found,) = (measure for measure in MEASURES if measure.title == title)
    return found


def differences(runs: Path) -> dict[int, float]:
    """Of each seed that is complete: how much less debias loses to drop-first than longclip, in points."""
    measure = measure_called("drop first, T2I change")
    out = {}
    for seed in complete_seeds(runs):
        probes = [finished(runs / f"{name}-{seed}" / "probes") for name in ("longclip", "debias")]
        lost = [value(found[measure.probe, measure.split], measure) for found in probes]
        out[seed] = lost[1] - lost[0]
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--out", type=Path, default=shipped("leaderboards").parent / "clipbias" / "weights")
    asked = parser.parse_args()
    found = differences(asked.runs)
    if not found:
        parser.error(f"{asked.runs}: no seed has all of {', '.join((BASE, *GRID))}")
    seed = median_seed(found)
    for one in sorted(found):
        print(f"seed {one}: {found[one]:+.2f} points{'  <- ships' if one == seed else ''}")
    for name, target in NAMES.items():
        run = asked.runs / f"{name}-{seed}"
        write_small(run / "model.pt", asked.out / f"{target}.pt")
        write_text(asked.out / f"{target}.md", (run / "model.md").read_text("utf-8"))
        print(f"written: {asked.out / f'{target}.pt'}")


if __name__ == "__main__":
    main()
