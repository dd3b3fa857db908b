"""All rows of all runs as one tidy table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from clipbias.errors import UserError
from clipbias.results import Run, find_runs, read_rows, read_run
from clipbias.shipped import shipped


def load_rows(paths: Sequence[Path]) -> tuple[pd.DataFrame, list[Run]]:
    """Rows of every finished run below ``paths``, with model, data and context columns, and the runs.

    Raises:
        UserError: nothing there, damaged files, or two runs of one model, data set and probe that differ.
    """
    folders = find_runs(paths)
    if not folders:
        raise UserError(
            f"no finished run in {', '.join(map(str, paths))}; run `clipbias probe` or `clipbias demo` first"
        )
    seen: dict[tuple[str, str, str, str], Run] = {}
    frames, runs = [], []
    for folder in folders:
        run = read_run(folder)
        key = (run.model, run.data, run.split, run.probe)
        if key in seen:
            same = (seen[key].model_fingerprint, seen[key].data_fingerprint, seen[key].probe_spec) == (
                run.model_fingerprint, run.data_fingerprint, run.probe_spec,
            )  # fmt: skip
            if same:
                continue
            raise UserError(
                f"{folder}: {run.probe} of {run.model} on {run.data} is there twice and differs; remove one"
            )
        seen[key] = run
        frame = pd.DataFrame([asdict(row) for row in read_rows(folder)])
        frames.append(frame.assign(model=run.model, data=run.data, protocol=run.protocol, context=run.context_length))
        runs.append(run)
    return pd.concat(frames, ignore_index=True), runs


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
