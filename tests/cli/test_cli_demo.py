"""The demo's closing words follow from its rows."""

from __future__ import annotations

import pytest
from tests_support import make_row

from clipbias.cli.demo import summary

CASES = (("drop-first", "full"), ("drop-first", "drop-first"), ("first-only", "first-only"), ("swap-1-4", "swap-1-4"))


def _rows(delta: float) -> list:
    rows = []
    for probe, condition in (*CASES, ("padding", "pad-1"), ("padding", "pad-5")):
        change = {} if condition == "full" else {"delta": delta, "delta_low": delta - 0.02, "delta_high": delta + 0.02}
        rows.append(make_row(probe=probe, condition=condition, **change))
    return rows


@pytest.mark.parametrize(
    ("debias", "words"),
    [
        (-0.1, "loses clearly less than nano-longclip"),
        (-0.31, "lose about as much"),
        (-0.6, "loses clearly more than nano-longclip"),
    ],
)
def test_the_verdict_is_what_the_intervals_say(debias, words):
    text = summary({"nano-longclip": _rows(-0.3), "nano-debias": _rows(debias)})
    assert text.count(words) == 3
    assert f"nano-debias    {100 * debias:+6.1f} points ({100 * debias - 2:+.1f} to {100 * debias + 2:+.1f})" in text
    assert "nano-longclip   50.0 (40.0 to 60.0)" in text
