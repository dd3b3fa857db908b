"""Two run folders compared as their probe asks: by condition, or by place where it moves sentences through places."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipbias.results.compare import Comparison, as_record, compare_runs, comparison_text
from clipbias.results.folder import read_run
from clipbias.results.places import PlaceContrast, has_places, place_contrasts, place_record, places_text


@dataclass(frozen=True)
class Pair:
    """Two runs of one probe on the same data, compared.

    Attributes:
        first, second: their folders.
        differences: a line per condition and direction.
        places: a line per place and direction; () where the probe moves no sentence through places.
    """

    first: Path
    second: Path
    differences: tuple[Comparison, ...]
    places: tuple[PlaceContrast, ...]

    def records(self) -> list[dict[str, Any]]:
        """Differences, then places, for tables and JSON."""
        return [*map(as_record, self.differences), *map(place_record, self.places)]

    def __str__(self) -> str:
        """What people read, in 80 columns: the places where there are any."""
        runs = read_run(self.first), read_run(self.second)
        return places_text(*runs, self.places) if self.places else comparison_text(*runs, self.differences)


def compared(first: Path, second: Path, margin: float | None = None) -> Pair:
    """Compare two run folders.

    Args:
        first, second: run folders.
        margin: also test equivalence within so much, a fraction.

    Raises:
        UserError: the runs are of different probes or different data.
    """
    places = place_contrasts(first, second) if has_places(first) else ()
    return Pair(first, second, tuple(compare_runs(first, second, margin)), tuple(places))
