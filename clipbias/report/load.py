"""What the report is made from: the rows of all runs as one tidy table, published numbers, ablations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from clipbias.errors import UserError
from clipbias.results.folder import Finished
from clipbias.shipped import shipped


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


def model_order(rows: pd.DataFrame) -> list[str]:
    """Models in the order of the report: names sorted, whatever order they were run in."""
    return sorted(rows["model"].unique())


def published_drops(data: str) -> pd.DataFrame:
    """Published changes of T2I R@1 in points on a data set, for the models that clipbias has a name for.

    Returns:
        Columns model, condition, value, source.
    """
    table = pd.read_csv(shipped("leaderboards") / "published.csv", keep_default_na=False)
    prefix = "recall@1 change, points: "
    chosen = (table["dataset"] == data) & (table["registered"] != "") & table["metric"].str.startswith(prefix)
    mine = table[chosen & (table["direction"] == "t2i")]
    columns = {"model": mine["registered"], "condition": mine["metric"].str.removeprefix(prefix)}
    return pd.DataFrame({**columns, "value": mine["value"].astype(float), "source": mine["source"]}).reset_index(
        drop=True
    )


def read_ablation(path: Path) -> pd.DataFrame:
    """A table of `clipbias finetune ablation`: columns recipe, measure, mean, values (a list, a seed each).

    Raises:
        UserError: not such a table.
    """
    try:
        table = pd.read_csv(path, dtype={"recipe": str, "measure": str, "values": str})
        # A leading apostrophe keeps a spreadsheet from taking the text for a formula.
        values = [[float(v) for v in text.lstrip("'").split()] for text in table["values"]]
        return table[["recipe", "measure", "mean"]].assign(mean=table["mean"].astype(float), values=values)
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise UserError(f"{path}: not a table of `clipbias finetune ablation` ({error})") from error
