"""Tables in a terminal: columns go, digits stay."""

from __future__ import annotations

import re

import pytest
from rich.console import Console

from clipbias.cli import console
from clipbias.cli.leaderboard import _print_board, _print_published
from clipbias.cli.tables import print_rows
from clipbias.report.columns import MEASURES
from clipbias.report.tables import shown


@pytest.fixture
def terminal(monkeypatch, capsys):
    """What is printed in a terminal of some width."""

    def printed(width, act):
        monkeypatch.setattr(Console, "is_terminal", property(lambda self: True))
        monkeypatch.setenv("COLUMNS", str(width))
        capsys.readouterr()
        act()
        return re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)

    return printed


def board():
    import pandas as pd

    lines = []
    for number, name in enumerate(("nano-debias", "a-model-of-a-rather-long-name")):
        line = {"data": "scenes", "rank": "1-2", "model": name, "context": 248}
        for place, measure in enumerate(MEASURES):
            value = -12.3 - place if measure.signed else 80.1 + place + number
            line |= {measure.name: value, f"{measure.name} low": value - 10, f"{measure.name} high": value + 10}
        lines.append(line | {"protocol": "1,000 images"})
    return pd.DataFrame(lines)


@pytest.mark.parametrize("width", [60, 80, 100, 120, 250])
def test_the_leaderboard_loses_columns_and_no_digit(terminal, width):
    text = terminal(width, lambda: _print_board("measured", shown(board(), (), "\n")))
    table = [line for line in text.splitlines() if not line.startswith("left out")]
    assert "…" not in text and max(map(len, table)) <= max(width, 80)  # what must stay is 80 wide
    every = {cell for column in shown(board(), (), "\n") for cell in shown(board(), (), "\n")[column]}
    parts = {part for cell in every for part in str(cell).split("\n")}
    seen = set(re.findall(r"\(-?\+?[\d.]+ to -?\+?[\d.]+\)|[+-]?\d+\.\d", "\n".join(table[3:])))
    assert seen and seen <= parts
    left = next((line for line in text.splitlines() if line.startswith("left out")), "")
    out = {name.strip() for name in left.partition(": ")[2].partition(";")[0].split(",")}
    for measure in MEASURES:
        assert (measure.name in out) != (f"{board()[measure.name].iloc[1]:{'+' if measure.signed else ''}.1f}" in seen)
    assert ("left out" in text) == (width < 250)


def test_a_narrow_terminal_keeps_what_was_published(terminal):
    text = terminal(80, _print_published)
    assert "longclip-b16" in text and "71.4" in text
    assert "left out in 80 columns: I2T R@1, protocol, source; `clipbias published --csv` has all" in text


def test_columns_go_in_their_order_and_the_others_stay():
    names = ["a", "b", "c"]
    assert console.fitting(names, [10, 10, 10], ["b", "a"], 36) == [0, 1, 2]
    assert console.fitting(names, [10, 10, 10], ["b", "a"], 35) == [0, 2]
    assert console.fitting(names, [10, 10, 10], ["b", "a"], 5) == [2]
    assert console.fitting(names, [10, 10, 10], ["b", "a"], None) == [0, 1, 2]


def test_rows_of_a_probe_lose_columns_and_no_digit(terminal):
    from tests_support import make_row

    rows = [
        make_row(condition=c, direction=d, scope=s, n=10 if s == "all" else 9, delta=-0.123, delta_low=-0.2,
                 delta_high=-0.1, p_holm=0.01, truncated=0.5, tokens_lost=12.5)
        for c in ("full", "drop-first") for d in ("t2i", "i2t") for s in ("eligible", "all")
    ]  # fmt: skip
    narrow = terminal(60, lambda: print_rows("m", rows))
    assert narrow.count("-12.3 (-20.0 to -10.0)") == 4 and "left out in 60 columns" in narrow and "…" not in narrow
    assert "12.5" not in narrow and "12.5" in terminal(200, lambda: print_rows("m", rows))


def test_curves_end_where_the_terminal_does_and_numbers_stand_below_each_other(terminal):
    from tests_support import make_row

    def row(condition, metric, value, **ends):
        return make_row(probe="attention", condition=condition, metric=metric, direction="", scope="", value=value,
                        **{"low": None, "high": None, **ends})  # fmt: skip

    rows = [row("all", "by_token", n / 100) for n in range(40)] + [row("layer-1-head-1", "by_token", 0.5)] * 3
    rows += [row("sentences-12", "share_of_the_first", -0.25, low=-0.3, high=-0.2)]
    for width, last in ((80, "..."), (400, "0.390")):
        title, *lines = terminal(width, lambda: print_rows("m", rows)).splitlines()
        assert title == "attention: m, n 10" and len(lines) == 3 and max(map(len, lines)) <= width
        assert lines[1].split()[2:4] == ["0.000", "0.010"] and lines[1].endswith(last)
        starts = {line.index(found) for line, found in zip(lines, ("value", "0.000", "-0.250 (-0.300 to"), strict=True)}
        assert len(starts) == 1
