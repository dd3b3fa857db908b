"""Two runs compared as their probe asks: by condition, or by place where it moves sentences through places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from clipbias.results.compare import Comparison, as_record, compare_runs, comparison_text
from clipbias.results.folder import Finished
from clipbias.results.places import PlaceContrast, has_places, place_contrasts, place_record, places_text


@dataclass(frozen=True)
class Pair:
    """Two runs of one probe on the same data, compared.

    Attributes:
        first, second: the runs.
        differences: a line per condition and direction.
        places: a line per place and direction; () where the probe moves no sentence through places.
    """

    first: Finished
    second: Finished
    differences: tuple[Comparison, ...]
    places: tuple[PlaceContrast, ...]

    def records(self) -> list[dict[str, Any]]:
        """Differences, then places, for tables and JSON."""
        return [*map(as_record, self.differences), *map(place_record, self.places)]

    def __str__(self) -> str:
        """What people read, in 80 columns: the places where there are any."""
        runs = self.first.run, self.second.run
        return places_text(*runs, self.places) if self.places else comparison_text(*runs, self.differences)


def compared(first: Finished, second: Finished, margin: float | None = None) -> Pair:
    """Compare two runs.

    Args:
        first, second: the runs.
        margin: also test equivalence within so much, a fraction.

    Raises:
        UserError: the runs are of different probes or different data.
    """
    places = place_contrasts(first, second) if has_places(first) else ()
    return Pair(first, second, tuple(compare_runs(first, second, margin)), tuple(places))
