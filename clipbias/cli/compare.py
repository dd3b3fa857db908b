"""`clipbias compare`: whether a condition costs one model more than another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clipbias.cli.console import AsCsv, AsJson, say


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
        from clipbias.results.compare import as_record, changed_queries, compare_runs, comparison_text, run_pairs
        from clipbias.results.folder import read_run
        from clipbias.results.places import has_places, place_contrasts, place_record, places_text

        if margin is not None and not 0 < margin < 100:
            raise UserError(f"--margin {margin:g}: give points between 0 and 100")
        within = None if margin is None else margin / 100
        pairs = run_pairs(first, second, results)
        if as_json or as_csv:
            whole: list[dict[str, object]] = []
            rows: list[dict[str, object]] = []
            for one, two in pairs:
                names = [str(one), str(two)]
                differences = [as_record(found) for found in compare_runs(one, two, within)]
                places = [place_record(found) for found in place_contrasts(one, two)] if has_places(one) else []
                changed = changed_queries(one, two).head(queries).to_dict("records")
                record = {"runs": names, "differences": differences, "changed": changed}
                whole.append(record | ({"places": places} if places else {}))
                rows += [{"runs": names, **row} for row in [*differences, *places]]
            printed(whole if as_json else rows, as_json, as_csv)
            return
        for one, two in pairs:
            if has_places(one):
                say(places_text(read_run(one), read_run(two), place_contrasts(one, two)))
                continue
            say(comparison_text(read_run(one), read_run(two), compare_runs(one, two, within)))
            if queries:
                for line in changed_queries(one, two).head(queries).itertuples():
                    ranks = f"rank {line.rank_a:g} -> {line.rank_b:g}"
                    say(f"    {line.condition:11} {line.direction.upper()} query {line.query}: {ranks}")
        if not queries:
            note(f"next: `clipbias compare {first} {second} --queries 5` names the captions that changed most")
