"""`clipbias card`: each model's bias in five numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clipbias.cli.console import AsCsv, AsJson, say


def register(app: typer.Typer) -> None:
    """Add the subcommand."""

    @app.command()
    def card(
        results: Annotated[list[Path] | None, typer.Option(help="Results folders; repeatable.")] = None,
        as_json: AsJson = False,
        as_csv: AsCsv = False,
    ) -> None:
        """Print each model's bias in five numbers."""
        from clipbias.cli.console import note, printed
        from clipbias.cli.tables import records_of
        from clipbias.results.card import SCALARS, cards, wide_cards
        from clipbias.results.folder import load_runs

        table = cards(load_runs(results or [Path("results")]))
        if printed(records_of(table), as_json, as_csv):
            return
        for data, part in wide_cards(table).groupby("data"):
            say(f"{data}")
            for line in part.to_dict("records"):
                say(f"  {line['model']}")
                for name, probe in SCALARS.items():
                    say(f"    {name:24} {line[name] or f'not measured: run the probe {probe}'}")
        note("next: `clipbias compare MODEL MODEL` tests two models against each other, `clipbias report` draws all")
