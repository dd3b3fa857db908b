"""Tables and bars of a probe's rows, as the terminal shows them."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from clipbias.cli.console import print_table, say, terminal_width
from clipbias.names import for_terminal

if TYPE_CHECKING:
    import pandas as pd

    from clipbias.results.record import Row

HEADLINE = "recall@1"


def print_rows(model: str, rows: list[Row]) -> None:
    """One probe's headline rows as a table: R@1 on eligible captions, with what changed.

    Columns that would say the same on every line (all captions eligible, none cut) are left out.
    """
    if not any(row.direction for row in rows):
        _print_means(model, rows)
        return
    headline = [row for row in rows if row.metric == HEADLINE and row.scope == "eligible"]
    everything = {(row.condition, row.direction): row for row in rows if row.metric == HEADLINE and row.scope == "all"}
    some_left_out = any(everything[row.condition, row.direction].n != row.n for row in headline)
    some_cut = any(row.truncated for row in headline)
    n = "" if some_left_out or not headline else f", n {headline[0].n}"
    columns = ["R@1 % (95%)", "change, points (95%)", "p (Holm)"]
    columns += ["n", "R@1 all"] * some_left_out + ["cut", "lost"] * some_cut
    table = []
    for row in headline:
        cells = [row.condition, row.direction.upper(), _share(row.value, row.low, row.high)]
        cells += [_change(row), "" if row.p_holm is None else f"{row.p_holm:.2g}"]
        if some_left_out:
            cells += [str(row.n), f"{100 * everything[row.condition, row.direction].value:.1f}"]
        if some_cut:
            cells += [f"{row.truncated:.0%}", f"{row.tokens_lost:.1f}"] if row.truncated else ["", ""]
        table.append(cells)
    everywhere = ("condition", "dir", *columns)
    print_table(everywhere, table, f"{rows[0].probe}: {model}{n}", right=columns, whole=everywhere, width=120,
                first_out=("R@1 all", "lost", "cut", "n", "p (Holm)"), more="--json has them")  # fmt: skip
    if sys.stdout.isatty() and len(headline) > 2:
        _print_chart(headline)
    if some_cut:
        say("cut: captions longer than the context; lost: mean of tokens cut per caption")


def _print_chart(headline: list[Row]) -> None:
    """R@1 of each condition as a bar, a block a direction."""
    width = max(len(row.condition) for row in headline)
    top = max(row.value for row in headline) or 1.0
    for direction in dict.fromkeys(row.direction for row in headline):
        say(f"{direction.upper()} R@1")
        for row in headline:
            if row.direction == direction:
                say(f"  {row.condition:{width}} {bar(row.value / top, 40)} {100 * row.value:.1f}")


def bar(share: float, width: int) -> str:
    """A bar of ``share`` (0 to 1) of ``width`` characters, to an eighth of one."""
    eighths = round(share * width * 8)
    return "\u2588" * (eighths // 8) + ("" if eighths % 8 == 0 else chr(0x2590 - eighths % 8))


def _print_means(model: str, rows: list[Row]) -> None:
    """Rows without a direction, a line per condition and metric: curves, cut where a terminal ends, and numbers."""
    from itertools import groupby

    found = groupby(rows, key=lambda row: (row.condition, row.metric))
    # What single attention heads do is in the results, too much for a terminal.
    groups = [("condition", "metric", "value (95%)")]
    groups += [(*key, _values(list(part))) for key, part in found if "-head-" not in key[0]]
    first, second = (max(len(for_terminal(one[place])) for one in groups) for place in (0, 1))
    room = (terminal_width() or 120) - first - second - 4
    say(f"{rows[0].probe}: {model}, n {rows[0].n}")
    for condition, metric, values in groups:
        shown = values if len(values) <= room else values[: max(room - 3, 1)].rpartition(" ")[0] + " ..."
        say(f"  {condition:{first}} {metric:{second}} {shown}")


def _values(line: list[Row]) -> str:
    """One number with its interval, or those of a curve."""
    low, high = line[0].low, line[0].high
    if len(line) > 1 or low is None or high is None:
        return " ".join(f"{row.value:.3f}" for row in line)
    return f"{line[0].value:.3f} ({low:.3f} to {high:.3f})"


def _share(value: float, low: float | None, high: float | None) -> str:
    """A share in percent, with its interval where there is one."""
    interval = "" if low is None or high is None else f" ({100 * low:.1f}-{100 * high:.1f})"
    return f"{100 * value:.1f}{interval}"


def _change(row: Row) -> str:
    if row.delta is None or row.delta_low is None or row.delta_high is None:
        return ""
    return f"{100 * row.delta:+.1f} ({100 * row.delta_low:+.1f} to {100 * row.delta_high:+.1f})"


def records_of(table: pd.DataFrame) -> list[dict[str, object]]:
    """A table for people as records: keys in snake_case, numbers as numbers, empty cells as None."""
    keys = {name: re.sub(r"\W+", "_", str(name).lower().replace("r@", "recall_")).strip("_") for name in table}
    lines = table.astype(object).where(table.notna(), None).rename(columns=keys).to_dict("records")
    return [{str(key): _number(value) for key, value in line.items()} for line in lines]


def _number(value: object) -> object:
    """A text that is a number, optionally signed, as that number; "" as None."""
    if not isinstance(value, str):
        return value
    if re.fullmatch(r"[+-]?\d+", value):
        return int(value)
    return float(value) if re.fullmatch(r"[+-]?\d+\.\d+", value) else value or None


def print_probes(as_json: bool, as_csv: bool) -> None:
    """The probes that ship: what they ask and what they cost."""
    from clipbias.cli.console import printed
    from clipbias.probe.costs import SENTENCES, stated
    from clipbias.probe.spec import find_probes, read_probe, shipped_probes

    listed = [read_probe(path) for path in shipped_probes().values()]
    cost = {p.name: stated(find_probes(p.name)) for p in listed}
    records: list[dict[str, object]] = [
        {
            "name": p.name,
            "title": p.title,
            "kind": "suite" if p.suite else p.kind,
            "conditions": len(p.conditions),
            "texts_per_caption": cost[p.name],
        }
        for p in listed
    ]
    if not printed(records, as_json, as_csv):
        wide = max(map(len, cost.values()))
        for p in listed:
            say(f"{p.name:20} {cost[p.name]:{wide}}  {p.title}")
        say(f"second column: texts to encode for a caption of {SENTENCES} sentences, at most")
