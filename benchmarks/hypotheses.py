"""The hypotheses of docs/experiment.md, each a contrast over training seeds with its interval, as a Markdown table.

    python benchmarks/hypotheses.py runs/experiment/dose-0.0 --other-dose runs/experiment/dose-0.3

Only seeds that are complete count. Intervals (95%) are over seeds and queries (`clipbias.stats.seeds`). "yes": the
interval lies on the claimed side of 0; "no": on the other; else the data do not say.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ship import complete_seeds, measure_called

from clipbias.finetune.ablation import BASE, GRID
from clipbias.finetune.measures import Measure, finished, hits, value
from clipbias.results.folder import Finished
from clipbias.stats.intervals import Interval
from clipbias.stats.seeds import from_estimates, over_seeds

PADDING = "1 to 5 padding sentences, T2I change"
DROP = "drop first, T2I change"
CONTRASTS = (
    ("H2", "padding, debias minus longclip", PADDING, "debias", "longclip"),
    ("H3", "40 to 160 pads, debias minus longclip", "40 to 160 pads, T2I change", "debias", "longclip"),
    ("H4", "drop-first, debias minus longclip", DROP, "debias", "longclip"),
    ("H5", "swap-1-4, debias minus longclip", "swap 1-4, T2I change", "debias", "longclip"),
    ("H6", "full captions, debias minus longclip", "T2I R@1", "debias", "longclip"),
    ("H7", "short captions, debias minus base", "short captions, T2I R@1", "debias", BASE),
    ("H8", "drop-first, longclip-weights minus longclip", DROP, "longclip-weights", "longclip"),
    ("H8", "drop-first, drop minus longclip-weights", DROP, "drop", "longclip-weights"),
    ("H8", "drop-first, sample minus drop", DROP, "sample", "drop"),
)  # fmt: skip
"""Claimed above 0, but H7: not below."""
TABLE_HEAD = (
    "| | contrast | claimed | mean | 95% | seeds | came out | each seed |",
    "|---|---|---|---|---|---|---|---|",
)
Runs = dict[tuple[str, int], dict[tuple[str, str], Finished]]


def table_of(
    runs: Runs, name: str, seeds: Sequence[int], measure: Measure, kept: np.ndarray | None = None
) -> np.ndarray:
    """The measure of every seed and query [S, Q], as credits or their change; ``kept``: only these queries."""
    tables = [hits(runs[name, s][measure.probe, measure.split], measure) for s in seeds]
    return np.stack([(one if kept is None else one[one.index.isin(kept)]).to_numpy() for one in tables])


def verdict(interval: Interval | None, claim: str) -> str:
    """What the interval says of a claim: "above", "below" or "not below" 0."""
    if interval is None:
        return "too few seeds"
    sides = {"above": interval.low > 0, "below": interval.high < 0}
    if claim == "not below":
        return "no" if sides["below"] else "yes" if interval.low >= 0 else "not contradicted"
    other = "below" if claim == "above" else "above"
    return "yes" if sides[claim] else "no" if sides[other] else "not shown"


def line(name: str, words: str, claim: str, each: np.ndarray, interval: Interval | None, form: str = "+.1f") -> str:
    """A row of the table; ``each``: a number a seed."""
    ends = f"{interval.low:{form}} to {interval.high:{form}}" if interval else ""
    agree = int((each < 0).sum() if claim == "below" else (each > 0).sum())
    values = " ".join(f"{one:{form}}" for one in each)
    told = "below" if claim == "below" else "above"
    cells = (name, words, f"{claim} 0", f"{each.mean():{form}}", ends, f"{agree} of {len(each)} {told}",
             verdict(interval, claim), values)  # fmt: skip
    return f"| {' | '.join(cells)} |"


def contrast(
    runs: Runs, seeds: Sequence[int], label: str, words: str, claim: str, first: str, second: str, measure: Measure,
    kept: np.ndarray | None = None,
) -> str:  # fmt: skip
    """A row of the table: ``first`` minus ``second`` on the same seeds and queries."""
    apart = table_of(runs, first, seeds, measure, kept) - table_of(runs, second, seeds, measure, kept)
    interval = points(over_seeds(apart, bound=2.0 if measure.change else 1.0))
    return line(label, words, claim, 100 * apart.mean(axis=1), interval)


def points(interval: Interval | None) -> Interval | None:
    return Interval(*(100 * end for end in interval)) if interval else None


def report(runs: Path, other: Path | None) -> str:
    """The table of every hypothesis that these folders can answer."""
    seeds = complete_seeds(runs)
    found: Runs = {(n, s): finished(runs / f"{n}-{s}" / "probes") for n in (BASE, *GRID) for s in seeds}
    padding = measure_called(PADDING)
    base = table_of(found, BASE, seeds, padding)
    z = measure_called("1 to 5 padding sentences, Page's z")
    trends = np.array([value(found[BASE, s][z.probe, z.split], z) for s in seeds])
    lines = [
        f"Seeds {', '.join(map(str, seeds))}; points, but Page's z.",
        "",
        *TABLE_HEAD,
        line("H1", "base, padding", "below", 100 * base.mean(axis=1), points(over_seeds(base))),
        line("H1", "base, Page's z over 1 to 5", "below", trends, from_estimates(trends, 1.0)),
    ]
    for name, words, title, first, second in CONTRASTS:
        claim = "not below" if name == "H7" else "above"
        lines.append(contrast(found, seeds, name, words, claim, first, second, measure_called(title)))
    if other is not None:
        both = [s for s in seeds if (other / f"{BASE}-{s}" / "model.pt").is_file()]
        led: Runs = {(BASE, s): finished(other / f"{BASE}-{s}" / "probes") for s in both}
        apart = table_of(found, BASE, both, padding) - table_of(led, BASE, both, padding)
        interval = points(over_seeds(apart, bound=2.0))
        lines.append(line("H9", "base, padding, dose 0 minus 0.3", "below", 100 * apart.mean(axis=1), interval))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--other-dose", type=Path)
    asked = parser.parse_args()
    if not complete_seeds(asked.runs):
        parser.error(f"{asked.runs}: no seed has all of {', '.join((BASE, *GRID))}")
    print(report(asked.runs, asked.other_dose))


if __name__ == "__main__":
    main()
