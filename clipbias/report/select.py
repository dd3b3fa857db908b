"""What figures are drawn from: rows of one probe and metric as tidy tables, in percent."""

from __future__ import annotations

import pandas as pd


def _in_percent(table: pd.DataFrame) -> pd.DataFrame:
    """The table with its fractions in percent (points for differences), and x a number."""
    fractions = [c for c in ("value", "low", "high", "delta", "delta_low", "delta_high") if c in table]
    percent = {column: table[column].astype(float) * 100 for column in fractions}
    return table.assign(x=table["x"].astype(float), **percent)


def headline(rows: pd.DataFrame, probe: str, direction: str) -> pd.DataFrame:
    """R@1 rows of one probe and direction on eligible captions, in percent; columns of a tidy figure table."""
    chosen = rows[
        (rows["probe"] == probe)
        & (rows["direction"] == direction)
        & (rows["metric"] == "recall@1")
        & (rows["scope"] == "eligible")
    ]
    columns = [
        "data",
        "model",
        "condition",
        "order",
        "x",
        "value",
        "low",
        "high",
        "delta",
        "delta_low",
        "delta_high",
        "p_holm",
        "n",
    ]
    out = chosen[columns].sort_values(["data", "model", "order"]).reset_index(drop=True)
    return _in_percent(out)


def curve_rows(rows: pd.DataFrame, metric: str, condition: str) -> pd.DataFrame:
    """A curve without a direction (attention by position, needle accuracy): its rows in the order of x, in percent."""
    chosen = rows[(rows["metric"] == metric) & (rows["condition"] == condition) & rows["x"].notna()]
    out = _in_percent(chosen[["data", "model", "condition", "metric", "x", "value", "low", "high", "n"]])
    # The last positions belong to the few longest captions; a mean over a handful says nothing.
    out = out[out["n"] >= 0.05 * out.groupby(["data", "model"])["n"].transform("max")]
    return out.sort_values(["data", "model", "x"]).reset_index(drop=True)


def layer_rows(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """A curve for each layer (conditions ``layer-1`` ...), in percent, with a column ``layer``."""
    chosen = rows[(rows["metric"] == metric) & rows["condition"].str.fullmatch(r"layer-\d+") & rows["x"].notna()]
    out = _in_percent(chosen[["data", "model", "condition", "x", "value", "low", "high", "n"]])
    out.insert(2, "layer", out.pop("condition").str.removeprefix("layer-").astype(int))
    return out.sort_values(["data", "model", "layer", "x"]).reset_index(drop=True)


def sentence_rows(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Curves by sentence (conditions ``sentences-S``), in percent, with columns ``sentences`` and ``tokens``."""
    chosen = rows[rows["condition"].str.fullmatch(r"sentences-\d+") & rows["x"].notna()]
    keys = ["data", "model", "condition", "x"]
    tokens = chosen[chosen["metric"] == "tokens_by_sentence"].drop_duplicates(keys).set_index(keys)["value"]
    out = chosen[chosen["metric"] == metric][[*keys, "value", "low", "high", "n"]]
    out = _in_percent(out.join(100 * tokens.astype(float).rename("tokens"), on=keys))
    out.insert(2, "sentences", out.pop("condition").str.removeprefix("sentences-").astype(int))
    return out.sort_values(["data", "model", "sentences", "x"]).reset_index(drop=True)
