"""Tables: retrieval, and what perturbations cost."""

from __future__ import annotations

import pandas as pd

from clipbias.names import for_csv, for_latex, for_markdown

_METRICS = ("recall@1", "recall@5", "recall@10")


def leaderboard(
    rows: pd.DataFrame, ranks: pd.DataFrame | None = None, scalars: pd.DataFrame | None = None
) -> pd.DataFrame:
    """One line a data set, protocol and model: full-caption retrieval with intervals, and the bias columns.

    ``drop first`` and ``swap 1-4`` are the T2I R@1 changes in points, paired on eligible captions,
    with their 95% intervals. Sorted by data set, then by T2I R@1.

    Args:
        rows: as `all_rows` gives them.
        ranks: as `shared_ranks` gives them; ``rank`` is a set, such as 1-3.
        scalars: as `cards` gives them; ``first-sentence reliance`` (% of R@1) and ``padding change`` (points,
            mean over 1 to 5 sentences) say how much of the score rests on the first sentence and on early positions.
    """
    full = rows[(rows["condition"] == "full") & (rows["scope"] == "all") & (rows["probe"] == "drop-first")]
    out = []
    for (data, protocol, model), part in full.groupby(["data", "protocol", "model"]):
        line: dict[str, object] = {"data": data, "model": model, "context": int(part["context"].iloc[0])}
        for direction in ("t2i", "i2t"):
            for metric in _METRICS:
                row = part[(part["direction"] == direction) & (part["metric"] == metric)].iloc[0]
                name = f"{direction.upper()} R@{metric.split('@')[1]}"
                line[name] = f"{100 * row['value']:.1f}"
                if metric == "recall@1":
                    line[f"{name} 95%"] = f"{100 * row['low']:.1f} to {100 * row['high']:.1f}"
        mine = rows[(rows["data"] == data) & (rows["model"] == model) & (rows["direction"] == "t2i")]
        for probe, name in (("drop-first", "drop first"), ("swap-1-4", "swap 1-4")):
            changed = mine[
                (mine["probe"] == probe)
                & (mine["metric"] == "recall@1")
                & (mine["scope"] == "eligible")
                & mine["delta"].notna()
            ]
            if len(changed):
                row = changed.iloc[0]
                line[name] = f"{100 * row['delta']:+.1f}"
                line[f"{name} 95%"] = f"{100 * row['delta_low']:+.1f} to {100 * row['delta_high']:+.1f}"
        if ranks is not None:
            mine_too = (ranks["data"] == data) & (ranks["protocol"] == protocol) & (ranks["model"] == model)
            line = {"data": data, "rank": next(iter(ranks.loc[mine_too, "rank"]), ""), **line}
        if scalars is not None:
            for name in ("first-sentence reliance", "padding change"):
                chosen = (scalars["data"] == data) & (scalars["model"] == model) & (scalars["scalar"] == name)
                line[name] = next((f"{value:.1f}" for value in scalars.loc[chosen, "value"]), "")
        line["protocol"] = protocol
        out.append(line)
    table = pd.DataFrame(out)
    if table.empty:
        return table
    order = table["T2I R@1"].astype(float)
    return (
        table.assign(_order=-order)
        .sort_values(["data", "protocol", "_order", "model"])
        .drop(columns="_order")
        .reset_index(drop=True)
    )


def to_markdown(table: pd.DataFrame) -> str:
    """A GitHub table; see `clipbias.names.for_markdown`."""
    cells = [list(map(for_markdown, row)) for row in _lines(table)]
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    return "\n".join([lines[0], "|" + "---|" * len(table.columns), *lines[1:]]) + "\n"


def to_latex(table: pd.DataFrame) -> str:
    """A booktabs table; see `clipbias.names.for_latex`."""
    numbers = [all(_is_number(str(v)) or not str(v) for v in table[c]) for c in table.columns]
    head, *rows = (" & ".join(map(for_latex, row)) + r" \\" for row in _lines(table))
    lines = [rf"\begin{{tabular}}{{{''.join('r' if n else 'l' for n in numbers)}}}", r"\toprule", head, r"\midrule"]
    return "\n".join([*lines, *rows, r"\bottomrule", r"\end{tabular}"]) + "\n"


def to_csv(table: pd.DataFrame) -> str:
    """CSV; see `clipbias.names.for_csv`."""
    return table.map(for_csv).rename(columns=for_csv).to_csv(index=False, lineterminator="\n")


def _lines(table: pd.DataFrame) -> list[list[str]]:
    """The header and the rows, as texts; what is missing is empty."""
    rows = table.itertuples(index=False)
    return [[str(c) for c in table.columns], *(["" if pd.isna(v) else str(v) for v in row] for row in rows)]


def _is_number(text: str) -> bool:
    try:
        float(text.split(" to ")[0])
    except ValueError:
        return False
    return True
