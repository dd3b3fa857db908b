"""`clipbias report`, `card`, `leaderboard` and `compare`: from results to figures, tables and differences."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clipbias.cli.console import print_table, say


def register(app: typer.Typer) -> None:
    """Add the subcommands."""

    @app.command()
    def report(
        out: Annotated[Path, typer.Option(help="Where the report is written.")] = Path("figures"),
        results: Annotated[list[Path] | None, typer.Option(help="Results folders; repeatable.")] = None,
        order: Annotated[list[str] | None, typer.Option(help="A model to show first; repeatable.")] = None,
        examples: Annotated[int, typer.Option(min=0, help="Captions per probe in the page's browser.")] = 8,
    ) -> None:
        """Write the figures, the leaderboard and index.html from all results found."""
        from clipbias.report.build import build_report

        drawn = build_report(results or [Path("results")], out, order or [], examples)
        for figure in drawn:
            say(f"{out / figure.stem}.png, .svg, .pdf, .csv")
        say(f"{out / 'cards.md'}, .csv")
        say(f"{out / 'leaderboard.md'}, .csv, .tex\n{out / 'index.html'}")
        say(f"next: open {out / 'index.html'} in a browser, or `clipbias compare MODEL MODEL` for a paired test")

    @app.command()
    def card(
        results: Annotated[list[Path] | None, typer.Option(help="Results folders; repeatable.")] = None,
        as_json: Annotated[bool, typer.Option("--json", help="JSON output.")] = False,
    ) -> None:
        """Print each model's bias in five numbers, from the probes that were run."""
        from clipbias.cli.console import print_json
        from clipbias.results.card import SCALARS, cards, wide_cards
        from clipbias.results.folder import load_runs

        table = cards(load_runs(results or [Path("results")]))
        if as_json:
            print_json(table.astype(object).where(table.notna(), None).to_dict("records"))
            return
        for data, part in wide_cards(table).groupby("data"):
            say(f"{data}")
            for line in part.to_dict("records"):
                say(f"  {line['model']}")
                for name, probe in SCALARS.items():
                    say(f"    {name:24} {line[name] or f'not measured: run the probe {probe}'}")

    @app.command()
    def leaderboard(
        results: Annotated[
            list[Path] | None, typer.Option(help="Results folders; default: the leaderboard that ships.")
        ] = None,
    ) -> None:
        """Print the leaderboard of results, or the one that ships with clipbias and the published numbers."""
        import pandas as pd

        from clipbias.report.load import all_rows
        from clipbias.report.tables import leaderboard as make_leaderboard
        from clipbias.results.card import cards
        from clipbias.results.folder import load_runs
        from clipbias.results.published import lines, read_published
        from clipbias.results.ranks import shared_ranks
        from clipbias.shipped import shipped

        def show(title: str, board: pd.DataFrame) -> None:
            columns, rows = list(map(str, board.columns)), board.itertuples(index=False)
            print_table(columns, rows, title, whole=("data", "dataset", "model"), width=200)

        if results:
            runs = load_runs(results)
            board = make_leaderboard(all_rows(runs), shared_ranks(runs), cards(runs))
            show("measured", board.drop(columns="protocol"))
            return
        show(
            "measured: clipbias demo",
            pd.read_csv(shipped("leaderboards") / "scenes.csv", dtype=str).drop(columns="protocol"),
        )
        numbers = pd.DataFrame(lines(read_published()))
        numbers.columns = ["data", "model", "backbone", "T2I R@1", "I2T R@1", "protocol", "source", "ran by"]
        show("published, not measured (clipbias published)", numbers.drop(columns="ran by"))

    @app.command()
    def compare(
        first: Annotated[str, typer.Argument(help="A model's name in the results, or a run folder.")],
        second: Annotated[str, typer.Argument(help="Another model or run folder; same probes and data.")],
        results: Annotated[Path, typer.Option(help="Where models are looked for.")] = Path("results"),
        queries: Annotated[int, typer.Option(help="Show this many of the queries that changed most.")] = 0,
        margin: Annotated[float | None, typer.Option(help="Points: also test whether the second is no worse.")] = None,
        as_json: Annotated[bool, typer.Option("--json", help="JSON output, in fractions.")] = False,
    ) -> None:
        """Whether a condition costs one model more than another: each one's change, their difference, interval, p."""
        from clipbias.cli.console import print_json
        from clipbias.errors import UserError
        from clipbias.results.compare import as_record, changed_queries, compare_runs, comparison_text, run_pairs
        from clipbias.results.folder import read_run
        from clipbias.results.places import has_places, place_contrasts, place_record, places_text

        if margin is not None and not 0 < margin < 100:
            raise UserError(f"--margin {margin:g}: give points between 0 and 100")
        within = None if margin is None else margin / 100
        if as_json:
            print_json(
                [
                    {
                        "runs": [str(one), str(two)],
                        "differences": [as_record(found) for found in compare_runs(one, two, within)],
                        "changed": changed_queries(one, two).head(queries).to_dict("records"),
                        **({"places": list(map(place_record, place_contrasts(one, two)))} if has_places(one) else {}),
                    }
                    for one, two in run_pairs(first, second, results)
                ]
            )
            return
        for one, two in run_pairs(first, second, results):
            if has_places(one):
                say(places_text(read_run(one), read_run(two), place_contrasts(one, two)))
                continue
            say(comparison_text(read_run(one), read_run(two), compare_runs(one, two, within)))
            if queries:
                for line in changed_queries(one, two).head(queries).itertuples():
                    ranks = f"rank {line.rank_a:g} -> {line.rank_b:g}"
                    say(f"    {line.condition:11} {line.direction.upper()} query {line.query}: {ranks}")
