"""`clipbias compare`: whether a condition costs one model more than another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clipbias.cli.console import AsCsv, AsJson, say

if TYPE_CHECKING:
    from clipbias.results.pairs import Pair


def register(app: typer.Typer) -> None:
    """Add the subcommand."""

    @app.command()
    def compare(
        first: Annotated[str, typer.Argument(help="A model's name in the results, or a run folder.")],
        second: Annotated[str, typer.Argument(help="Another model or run folder; same probes and data.")],
        results: Annotated[Path, typer.Option(help="Where models are looked for.")] = Path("results"),
        queries: Annotated[int, typer.Option(help="Show this many of the queries that changed most.")] = 0,
        margin: Annotated[float | None, typer.Option(help="Points: also test whether the second is no worse.")] = None,
        as_json: AsJson = False,
        as_csv: AsCsv = False,
    ) -> None:
        """Test whether a condition costs one model more than another.

        Each one's change, their difference with its interval, and p. JSON and CSV hold fractions, not points.
        """
        from clipbias.cli.console import note, printed
        from clipbias.errors import UserError
        from clipbias.results.compare import changed_queries, run_pairs
        from clipbias.results.pairs import compared

        if margin is not None and not 0 < margin < 100:
            raise UserError(f"--margin {margin:g}: give points between 0 and 100")
        pairs = [
            compared(one, two, None if margin is None else margin / 100)
            for one, two in run_pairs(first, second, results)
        ]
        if as_json or as_csv:
            printed([_record(pair, queries) for pair in pairs] if as_json else _lines(pairs), as_json, as_csv)
            return
        for pair in pairs:
            say(pair)
            for line in changed_queries(pair.first, pair.second).head(queries).itertuples() if queries else ():
                ranks = f"rank {line.rank_a:g} -> {line.rank_b:g}"
                say(f"    {line.condition:11} {line.direction.upper()} query {line.query}: {ranks}")
        if not queries:
            note(f"next: `clipbias compare {first} {second} --queries 5` names the captions that changed most")


def _record(pair: Pair, queries: int) -> dict[str, object]:
    """A pair of runs for JSON."""
    from clipbias.results.compare import as_record, changed_queries
    from clipbias.results.places import place_record

    record = {
        "runs": _folders(pair),
        "differences": [as_record(one) for one in pair.differences],
        "changed": changed_queries(pair.first, pair.second).head(queries).to_dict("records"),
    }
    return record | ({"places": [place_record(one) for one in pair.places]} if pair.places else {})


def _lines(pairs: Sequence[Pair]) -> list[dict[str, object]]:
    """The same for CSV, a line per comparison."""
    return [{"runs": _folders(pair), **row} for pair in pairs for row in pair.records()]


def _folders(pair: Pair) -> list[str]:
    return [str(pair.first.folder), str(pair.second.folder)]
