"""Two models' effects of places in a caption, and whether they differ: the interaction of model and place.

From the per-query tables of the probes `place`, `place-others`, `place-pads`. The design is the same for both models,
so the differences of their credits, query by query, have the difference of their effects as their effects, paired.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd

from clipbias.errors import UserError
from clipbias.results.compare import require_comparable
from clipbias.results.folder import Finished
from clipbias.results.queries import credits
from clipbias.results.record import Run
from clipbias.stats.intervals import Interval
from clipbias.stats.places import place_effects

_CONDITION = re.compile(r"(\d+)-at-(\d+)")


class PlaceContrast(NamedTuple):
    """The effect of a place (None: the slope, a change a place) in fractions of R@1: two models' and second - first."""

    probe: str
    direction: str
    place: int | None
    first: tuple[float, Interval | None]
    second: tuple[float, Interval | None]
    apart: tuple[float, Interval | None]


def has_places(one: Finished) -> bool:
    """Whether a run moved sentences through places: its conditions are ``s-at-j``."""
    names = one.queries["condition"].unique()
    return len(names) > 0 and all(_CONDITION.fullmatch(str(name)) for name in names)


def place_contrasts(first: Finished, second: Finished) -> list[PlaceContrast]:
    """Every place, then the slope, in each direction of two runs of one probe on the same data.

    Raises:
        UserError: the runs are of different probes or data, or have no places.
    """
    require_comparable(first, second)
    for one in (first, second):
        if not has_places(one):
            raise UserError(f"{one.folder}: its probe moves no sentence through places")
    table = _credits(first).merge(
        _credits(second), on=["condition", "direction", "query"], suffixes=("_a", "_b"), validate="one_to_one"
    )
    out: list[PlaceContrast] = []
    for direction, part in table.groupby("direction", sort=False):
        told, place = (part["condition"].str.extract(_CONDITION.pattern).astype(int) - 1).to_numpy().T
        content = part["query"].to_numpy() * (told.max() + 1) + told
        hits = [part[f"hit_{side}"].to_numpy() for side in "ab"]
        found = [
            place_effects(values, content, place, part["cluster_a"].to_numpy()) for values in (*hits, hits[1] - hits[0])
        ]
        lines: list[Any] = [*range(1, int(place.max()) + 2), None]
        for line in lines:
            three = [one.slope if line is None else one.effects[line - 1] for one in found]
            out.append(PlaceContrast(first.run.probe, str(direction), line, *three))
    return out


def _credits(one: Finished) -> pd.DataFrame:
    table = one.queries
    return table[["condition", "direction", "query", "cluster"]].assign(hit=credits(table))


def place_record(one: PlaceContrast) -> dict[str, object]:
    """A contrast for tables and JSON; the place "slope" is the change a place."""

    def plain(found: tuple[float, Interval | None]) -> dict[str, object]:
        value, interval = found
        return {"value": value, "low": interval and interval.low, "high": interval and interval.high}

    sides = {"effect_first": one.first, "effect_second": one.second, "apart": one.apart}
    named = {"probe": one.probe, "direction": one.direction, "place": "slope" if one.place is None else one.place}
    return named | {name: plain(found) for name, found in sides.items()}


def places_text(a: Run, b: Run, found: Sequence[PlaceContrast]) -> str:
    """The contrasts for people, in 80 columns."""
    lines = [
        f"{a.probe} on {a.data} ({a.split}): effect of a place on R@1 in points, freed of content",
        f"  A = {a.model}",
        f"  B = {b.model}",
        "  effects of one model sum to 0; B - A: the interaction of model and place, on",
        "  the same sentences at the same places, 95% interval over images",
        "",
        f"{'place':8} {'':3} {'A':>6} {'B':>6}   {'B - A':>6} {'95%':17}",
    ]
    for one in found:
        value, interval = one.apart
        ends = f"{100 * interval.low:+.1f} to {100 * interval.high:+.1f}" if interval else ""
        name = "a place" if one.place is None else str(one.place)
        lines.append(
            f"{name:8} {one.direction.upper():3} {100 * one.first[0]:+6.1f} {100 * one.second[0]:+6.1f}"
            f"   {100 * value:+6.1f} {ends:17}".rstrip()
        )
    return "\n".join(lines) + "\n"
