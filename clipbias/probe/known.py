"""What must hold of a probe's rows on a rigged encoder: claims, each with what was found and whether it holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from clipbias.results.record import Row


class Found(NamedTuple):
    """What a claim found, in words, and whether it holds."""

    told: str
    holds: bool


class Claim(NamedTuple):
    """Something known of a probe's rows: in words, and the check of them."""

    what: str
    check: Callable[[Sequence[Row]], Found]


_EXACT = 1e-6


def _chosen(rows: Sequence[Row], conditions: Sequence[str], metric: str, least: float, most: float) -> list[Row]:
    """Rows of a metric; of retrieval probes those text to image on eligible captions."""
    return [
        row
        for row in rows
        if row.metric == metric
        and row.direction in ("", "t2i")
        and row.scope == "eligible"
        and (not conditions or row.condition in conditions)
        and (row.x is None or least <= row.x <= most)
    ]


def _worst(rows: list[Row], off: Callable[[Row], float], told: Callable[[Row], str]) -> Found:
    """The row that is furthest ``off``; no row at all does not hold."""
    if not rows:
        return Found("no such row", False)
    worst = max(rows, key=off)
    return Found(told(worst), off(worst) <= 0)


def _beyond(row: Row, truth: float) -> float:
    """How far the interval, or the value where there is none, is from the truth; 0 or below: it covers it."""
    low, high = (row.value, row.value) if row.low is None or row.high is None else (row.low, row.high)
    return max(low - truth, truth - high) - _EXACT


def is_(metric: str, truth: float, what: str, *conditions: str, least: float = -1e9, most: float = 1e9) -> Claim:
    """Every row of the metric (with x in ``least`` .. ``most``) is ``truth``, and its interval covers it."""

    def check(rows: Sequence[Row]) -> Found:
        def off(row: Row) -> float:
            return max(abs(row.value - truth) - _EXACT, _beyond(row, truth))

        mine = _chosen(rows, conditions, metric, least, most)
        return _worst(mine, off, lambda row: f"{row.value:.3f} (expected {truth:.3f})")

    return Claim(what, check)


def covers(metric: str, truth: float, what: str, *conditions: str, least: float = -1e9, most: float = 1e9) -> Claim:
    """Every such row has an interval that covers ``truth``."""

    def check(rows: Sequence[Row]) -> Found:
        mine = _chosen(rows, conditions, metric, least, most)
        return _worst(mine, lambda row: _beyond(row, truth), lambda row: f"{_span(row)} (expected {truth:.3f})")

    return Claim(what, check)


def above(metric: str, bound: float, what: str, *conditions: str, least: float = -1e9, most: float = 1e9) -> Claim:
    """Every such row's interval lies above ``bound``."""

    def check(rows: Sequence[Row]) -> Found:
        def off(row: Row) -> float:
            return bound - (row.value if row.low is None else row.low)

        mine = _chosen(rows, conditions, metric, least, most)
        return _worst(mine, off, lambda row: f"{_span(row)}, above {bound:g}")

    return Claim(what, check)


def same(what: str, *conditions: str) -> Claim:
    """Against the baseline R@1 does not change at all, and the interval of the change covers 0."""

    def check(rows: Sequence[Row]) -> Found:
        def off(row: Row) -> float:
            low, high = row.delta_low or 0.0, row.delta_high or 0.0
            return max(abs(row.delta or 0.0), low, -high) - _EXACT

        mine = [row for row in _chosen(rows, conditions, "recall@1", -1e9, 1e9) if row.delta is not None]
        return _worst(mine, off, lambda row: f"{row.condition} changes R@1 by {100 * (row.delta or 0):.1f} points")

    return Claim(what, check)


def loses(what: str, *conditions: str) -> Claim:
    """R@1 falls, and the interval of the change lies below 0."""

    def check(rows: Sequence[Row]) -> Found:
        mine = [row for row in _chosen(rows, conditions, "recall@1", -1e9, 1e9) if row.delta is not None]
        found = _worst(
            mine, lambda row: row.delta_high or 0.0, lambda row: f"{row.condition} {100 * (row.delta or 0):.1f} points"
        )
        return found._replace(holds=found.holds and all((row.delta_high or 0.0) < 0 for row in mine))

    return Claim(what, check)


def equal(metric: str, what: str, *conditions: str) -> Claim:
    """All such rows have one value."""

    def check(rows: Sequence[Row]) -> Found:
        values = [row.value for row in _chosen(rows, conditions, metric, -1e9, 1e9)]
        if len(values) < 2:
            return Found("fewer than two rows", False)
        return Found(f"{min(values):.3f} to {max(values):.3f}", max(values) - min(values) <= _EXACT)

    return Claim(what, check)


def _span(row: Row) -> str:
    if row.low is None or row.high is None:
        return f"{row.value:.3f}"
    return f"{row.value:.3f} ({row.low:.3f} to {row.high:.3f})"
