"""How a reading arises: the validation recalls of an ablation's trainings, along their steps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from clipbias.finetune.ablation import BASE, Grid
from clipbias.finetune.folder import all_metrics

CURVES = (
    ("full captions, T2I R@1", "full", ""),
    ("drop first, T2I change", "drop-first", "full"),
    ("1 padding sentence, T2I change", "pad-1", "pad-0"),
    ("5 padding sentences, T2I change", "pad-5", "pad-0"),
)
"""Title, condition (`clipbias.finetune.validation.perturbed`), and the condition that it is a change from."""


def trajectory(grid: Grid) -> pd.DataFrame:
    """The validation points of every training of a grid.

    A fine-tuning's steps count on from the last one of its base, where the grid trained that.

    Returns:
        Columns recipe, seed, step (steps done), measure (a title of `CURVES`), value (percent or points); without
        lines where nothing was held out.
    """
    lines = []
    for seed in grid.seeds:
        before = 0
        for name in (*(() if grid.base else (BASE,)), *grid.recipes):
            points = list(_points(grid.out / f"{name}-{seed}"))
            lines += [(name, seed, before + step, title, value) for step, title, value in points]
            if name == BASE:
                before = max((step for step, _, _ in points), default=0)
    return pd.DataFrame(lines, columns=["recipe", "seed", "step", "measure", "value"])


def _points(folder: Path) -> Iterator[tuple[int, str, float]]:
    for line in all_metrics(folder):
        found = {name: line.get(_key(name)) for name in ("full", "drop-first", "pad-0", "pad-1", "pad-5")}
        for title, name, reference in CURVES:
            value, other = found[name], found[reference] if reference else 0.0
            if value is not None and other is not None:
                yield int(line["step"]) + 1, title, round(100 * (value - other), 3)


def _key(condition: str) -> str:
    return f"validation_{'' if condition == 'full' else condition + '_'}t2i_recall@1"
