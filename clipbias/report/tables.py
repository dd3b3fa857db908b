"""Tables: retrieval, and what perturbations cost."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from clipbias.errors import UserError
from clipbias.names import for_csv, for_latex, for_markdown
from clipbias.report.columns import MEASURES, Column, told
from clipbias.report.display import model_name
from clipbias.results.card import ends_text

_KEYS = ["data", "protocol", "model"]
LATEX_COLUMNS = ("T2I R@1", "I2T R@1", "drop first", "swap 1-4", "first-sentence reliance")


def leaderboard(
    rows: pd.DataFrame, ranks: pd.DataFrame | None = None, scalars: pd.DataFrame | None = None
) -> pd.DataFrame:
    """One line per data set, protocol and model: full-caption retrieval and the bias columns, as numbers.

    Each of `MEASURES` has its value and the ends of its 95% interval, in percent or points; ``drop first`` and ``swap
    1-4`` are the T2I R@1 changes, paired on eligible captions. Sorted by data set, then by T2I R@1.

    Args:
        rows: as `all_rows` gives them.
        ranks: as `shared_ranks` gives them; ``rank`` is a set, such as 1-3.
        scalars: as `cards` gives them; ``first-sentence reliance`` (% of R@1) and ``padding change`` (points,
            mean over 1 to 5 sentences) say how much of the score rests on the first sentence and on early positions.
    """
    out = []
    full = rows[(rows["condition"] == "full") & (rows["scope"] == "all") & (rows["probe"] == "drop-first")]
    contexts = full.drop_duplicates(_KEYS).set_index(_KEYS)["context"]
    for (data, protocol, model), found in told(rows, scalars, _KEYS).items():
        if (data, protocol, model) not in contexts:
            continue
        line: dict[str, object] = {"data": data, "rank": "", "model": model}
        line["context"] = int(contexts[data, protocol, model])
        if ranks is not None:
            mine = (ranks["data"] == data) & (ranks["protocol"] == protocol) & (ranks["model"] == model)
            line["rank"] = next(iter(ranks.loc[mine, "rank"]), "")
        for measure in MEASURES:
            for suffix, number in zip(("", " low", " high"), found.number(measure) or (None,) * 3, strict=True):
                line[measure.name + suffix] = None if number is None or pd.isna(number) else round(float(number), 9)
        out.append(line | {"protocol": protocol})
    numbers = [measure.name + suffix for measure in MEASURES for suffix in ("", " low", " high")]
    table = pd.DataFrame(out, columns=["data", "rank", "model", "context", *numbers, "protocol"])
    best = -table["T2I R@1"].astype(float)
    order = ["data", "protocol", "_best", "model"]
    return table.assign(_best=best).sort_values(order).drop(columns="_best").reset_index(drop=True)


def _texts(board: pd.DataFrame, measure: Column) -> list[tuple[str, str]]:
    """Value and interval of each line of a column, as people read them; "" where there is none."""
    sign = "+" if measure.signed else ""
    out = []
    names = [measure.name, f"{measure.name} low", f"{measure.name} high"]
    for value, low, high in board[names].astype(float).to_numpy():
        out.append(("" if pd.isna(value) else f"{value:{sign}.1f}", ends_text(low, high, sign)))
    return out


def chosen(names: Sequence[str]) -> list[str]:
    """Measured columns that were asked for, as the board names them.

    Raises:
        UserError: a name is no measured column; the line lists them.
    """
    known = {measure.name.lower(): measure.name for measure in MEASURES}
    for name in names:
        if name.lower() not in known:
            raise UserError(f"--columns {name}: no such column; there are {', '.join(known.values())}")
    return [known[name.lower()] for name in names]


def shown(board: pd.DataFrame, columns: Sequence[str] = (), between: str = " ") -> pd.DataFrame:
    """The leaderboard for people: texts, "99.9 (99.7 to 100.0)", and no column without a number.

    Args:
        board: as `leaderboard` gives it, or its CSV file.
        columns: names of `MEASURES`; default: all.
        between: what stands between a value and its interval.
    """
    out = board[["data", "rank", "model", "context"]].astype(object).fillna("").astype(str)
    for measure in _measures(columns):
        pairs = _texts(board, measure)
        cells = [value + (f"{between}({ends})" if ends and measure.interval else "") for value, ends in pairs]
        if any(cells):
            out[measure.name] = cells
    if not out["rank"].any():
        out = out.drop(columns="rank")
    return out.assign(protocol=board["protocol"])


def _measures(columns: Sequence[str]) -> list[Column]:
    known = {measure.name: measure for measure in MEASURES}
    return [known[name] for name in columns or known]


def best_of(board: pd.DataFrame, measure: Column) -> list[bool]:
    """Which lines hold the best number of a column, to the digit that is shown, within data set and protocol."""
    values = board[measure.name].astype(float).round(1)
    worth = {"high": values, "low": -values, "zero": -values.abs()}[measure.better]
    top = worth.groupby([board["data"], board["protocol"]]).transform("max")
    return [bool(value == best) for value, best in zip(worth, top, strict=True)]


def to_latex(board: pd.DataFrame, columns: Sequence[str] = LATEX_COLUMNS) -> str:
    """The leaderboard as a booktabs table: chosen columns, the best in bold, intervals small, real minus signs.

    Args:
        board: as `leaderboard` gives it.
        columns: names of `MEASURES`; those without a number are left out.
    """
    measures = [measure for measure in _measures(columns) if board[measure.name].notna().any()]
    several = board["data"].nunique() > 1
    heads = [*(["Data"] if several else []), "Model", *(for_latex(m.name[0].upper() + m.name[1:]) for m in measures)]
    columns_of = [_latex_cells(board, measure) for measure in measures]
    lines = [
        r"% needs \usepackage{booktabs}; R@k and reliance in percent, changes in points, 95\% intervals over queries",
        rf"\begin{{tabular}}{{{'l' * (1 + several)}{'r' * len(measures)}}}", r"\toprule",
        " & ".join(heads) + r" \\", r"\midrule",
    ]  # fmt: skip
    for number, (data, model) in enumerate(zip(board["data"], board["model"], strict=True)):
        if number and several and data != board["data"].iloc[number - 1]:
            lines.append(r"\midrule")
        names = [for_latex(data)] * several + [for_latex(model_name(model))]
        lines.append(" & ".join([*names, *(cells[number] for cells in columns_of)]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _latex_cells(board: pd.DataFrame, measure: Column) -> list[str]:
    out = []
    for (value, ends), best in zip(_texts(board, measure), best_of(board, measure), strict=True):
        if not value:
            out.append("--")
            continue
        set_value = rf"$\mathbf{{{value}}}$" if best else f"${value}$"
        low, high = (end if end == "open" else f"${end}$" for end in (ends or "open to open").split(" to "))
        small = rf" {{\scriptsize({low} to {high})}}" if ends and measure.interval else ""
        out.append(set_value + small)
    return out


def to_markdown(table: pd.DataFrame) -> str:
    """A GitHub table; see `clipbias.names.for_markdown`."""
    cells = [list(map(for_markdown, row)) for row in _lines(table)]
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    return "\n".join([lines[0], "|" + "---|" * len(table.columns), *lines[1:]]) + "\n"


def to_csv(table: pd.DataFrame) -> str:
    """CSV; see `clipbias.names.for_csv`."""
    return table.map(for_csv).rename(columns=for_csv).to_csv(index=False, lineterminator="\n")


def _lines(table: pd.DataFrame) -> list[list[str]]:
    """The header and the rows, as texts; what is missing is empty."""
    rows = table.itertuples(index=False)
    return [[str(c) for c in table.columns], *(["" if pd.isna(v) else str(v) for v in row] for row in rows)]
