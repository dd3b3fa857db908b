"""What the report is made from: the rows of all runs as one tidy table, published numbers, ablations."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from clipbias.errors import UserError
from clipbias.gate import read_bytes
from clipbias.names import from_csv
from clipbias.results.folder import Finished
from clipbias.results.published import read_published


def all_rows(runs: Sequence[Finished]) -> pd.DataFrame:
    """The rows of runs, with model, data, protocol and context columns.

    Raises:
        UserError: no runs, or damaged ones.
    """
    if not runs:
        raise UserError("no finished run in the results; run `clipbias probe` or `clipbias demo` first")
    frames = [
        pd.DataFrame([asdict(row) for row in one.rows]).assign(
            model=one.run.model, data=one.run.data, protocol=one.run.protocol, context=one.run.context_length
        )
        for one in runs
    ]
    return pd.concat(frames, ignore_index=True)


def published_drops(data: str) -> pd.DataFrame:
    """Published changes of T2I R@1 in points on a data set, for models that are registered.

    Returns:
        Columns model, condition, value, source.
    """
    found = [
        (n.registered, n.condition, n.value, n.cited)
        for n in read_published()
        if (n.dataset, n.direction, n.metric, n.unit) == (data, "t2i", "recall@1", "points") and n.registered
    ]
    return pd.DataFrame(found, columns=["model", "condition", "value", "source"])


_NAMES = {"recipe": from_csv, "measure": from_csv}
"""The columns of an ablation's tables that hold names."""


def read_ablation(path: Path) -> pd.DataFrame:
    """A table of `clipbias finetune ablation`: columns recipe, measure, mean, values (a list, a seed each).

    Raises:
        UserError: not such a table.
    """
    try:
        table = pd.read_csv(io.BytesIO(read_bytes(path, "rows")), dtype={"values": str}, converters=_NAMES)
        values = [[float(v) for v in from_csv(text).split()] for text in table["values"]]
        return table[["recipe", "measure", "mean"]].assign(mean=table["mean"].astype(float), values=values)
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise UserError(f"{path}: not a table of `clipbias finetune ablation` ({error})") from error


def read_trajectory(path: Path) -> pd.DataFrame:
    """A trajectory of `clipbias finetune ablation`: columns recipe, seed, step, measure, value.

    Raises:
        UserError: not such a table.
    """
    kinds = {"recipe": str, "seed": int, "step": int, "measure": str, "value": float}
    try:
        table = pd.read_csv(io.BytesIO(read_bytes(path, "rows")), converters=_NAMES)
        if table.empty:
            raise ValueError("no points")
        return table[list(kinds)].astype(kinds)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: not a trajectory of `clipbias finetune ablation` ({error})") from error
