"""Why a hypothesis of docs/experiment.md did not come out: further questions to the same models, without training.

    python benchmarks/followups.py runs/experiment/dose-0.0

Prints a table as `benchmarks/hypotheses.py` does. The probe of F1 (`benchmarks/followups/fewer-details.toml`) is run on
models that lack it; its run folders are kept beside those of the ablation's probes.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from hypotheses import TABLE_HEAD, Runs, contrast, line, points, table_of
from ship import complete_seeds

from clipbias.data.loading import load_dataset
from clipbias.finetune.ablation import BASE, GRID
from clipbias.finetune.measures import SHORT_SPLIT, Measure, finished, hits
from clipbias.models.loading import load_model
from clipbias.probe.run import run_probe
from clipbias.probe.session import Session
from clipbias.probe.spec import find_probes
from clipbias.results.card import first_sentence_reliance
from clipbias.shipped import WORLD
from clipbias.stats.seeds import from_estimates, over_seeds
from clipbias.stats.trend import page

FEWER = Path(__file__).with_name("followups") / "fewer-details.toml"
SHIFTS = ("shift-5", "shift-10", "shift-20")
"""Pads as many as the tokens of 1, 2 and 4 padding sentences."""
SENTENCES = ("pad-1", "pad-2", "pad-4")


def probe_fewer(runs: Path, seeds: Sequence[int]) -> None:
    """Run F1's probe on the models that lack it."""
    (probe,) = find_probes(str(FEWER))
    data = load_dataset(WORLD)
    for seed in seeds:
        for name in ("longclip", "drop", "sample", "debias"):
            folder = runs / f"{name}-{seed}"
            session = Session(load_model(str(folder / "model.pt")), data)
            run_probe(session, probe, folder / "probes", "python benchmarks/followups.py")


def summaries() -> np.ndarray:
    """The short captions of the test split that are a summary, by query number; the others are details."""
    captions = load_dataset(WORLD, split=SHORT_SPLIT).captions
    # The main object alone is large, and only a summary says so.
    return np.array([i for i, caption in enumerate(captions) if " large " in caption.split(".")[0]])


def shift_trend(found: Runs, seed: int) -> float:
    """Page's z of the base over the three displacements."""
    one = found[BASE, seed]["token-padding", ""]
    columns = [hits(one, Measure("", "token-padding", (condition,))) for condition in SHIFTS]
    trend = page(pd.concat(columns, axis=1, join="inner").to_numpy())
    return trend.z if trend else 0.0


def reliance(found: Runs, name: str, seed: int) -> tuple[float, float]:
    """The card's reliance on the first sentence, in percent of R@1, and the variance that queries give it."""
    told = first_sentence_reliance(found[name, seed]["drop-first", ""].queries)
    assert told is not None and told.low is not None and told.high is not None
    return told.value, ((told.high - told.low) / 2 / 1.96) ** 2


def report(runs: Path) -> str:
    """The table."""
    seeds = complete_seeds(runs)
    probe_fewer(runs, seeds)
    found: Runs = {(n, s): finished(runs / f"{n}-{s}" / "probes") for n in (BASE, *GRID) for s in seeds}
    lines = [f"Seeds {', '.join(map(str, seeds))}; points, but Page's z.", "", *TABLE_HEAD]

    told = partial(contrast, found, seeds)
    for condition in ("details", "three", "two", "one"):
        claim = "below" if condition == "details" else "above"
        measure = Measure("", "fewer-details", (condition,))
        lines.append(
            told("F1", f"without the summary, {condition}: sample minus drop", claim, "sample", "drop", measure)
        )
    short = Measure("", "first-only", ("full",), split=SHORT_SPLIT)
    summary = summaries()
    others = np.setdiff1d(np.arange(len(load_dataset(WORLD, split=SHORT_SPLIT))), summary)
    for words, claim, kept in (("summaries", "below", summary), ("details", "not below", others)):
        words = f"short captions that are {words}"
        lines.append(told("F2", f"{words}, debias minus base", claim, "debias", BASE, short, kept))
        lines.append(told("F2", f"{words}, long-only minus longclip", claim, "long-only", "longclip", short, kept))
    for words, measure in (
        ("base, 5, 10 and 20 pads", Measure("", "token-padding", SHIFTS, change=True)),
        ("base, 1, 2 and 4 padding sentences", Measure("", "padding", SENTENCES, change=True)),
    ):
        each = table_of(found, BASE, seeds, measure)
        lines.append(line("F3", words, "below", 100 * each.mean(axis=1), points(over_seeds(each, bound=1.0))))
    trends = np.array([shift_trend(found, seed) for seed in seeds])
    lines.append(line("F3", "base, Page's z over 5, 10 and 20 pads", "below", trends, from_estimates(trends, 1.0)))
    without = Measure("", "drop-first", ("drop-first",))
    lines.append(
        told("F4", "R@1 without the first sentence, debias minus longclip", "above", "debias", "longclip", without)
    )
    lost = {name: np.array([reliance(found, name, seed) for seed in seeds]) for name in ("debias", "longclip")}
    values, errors = (lost["debias"] - lost["longclip"])[:, 0], lost["debias"][:, 1] + lost["longclip"][:, 1]
    words = "share of R@1 lost without the first sentence, debias minus longclip"
    lines.append(line("F4", words, "below", values, from_estimates(values, errors)))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path)
    asked = parser.parse_args()
    if not complete_seeds(asked.runs):
        parser.error(f"{asked.runs}: no seed has all of {', '.join((BASE, *GRID))}")
    print(report(asked.runs))


if __name__ == "__main__":
    main()
