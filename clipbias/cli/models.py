"""`clipbias models`: the registered models."""

from __future__ import annotations

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the subcommand."""

    @app.command()
    def models(
        name: Annotated[str | None, typer.Argument(help="One model, shown in full.")] = None,
        as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    ) -> None:
        """List the models that have a name, and where their weights come from."""
        from dataclasses import asdict

        from rich.console import Console
        from rich.table import Table

        from clipbias.cli.console import print_json
        from clipbias.models.catalogue import MODELS, PACKAGED

        chosen = {n: MODELS[n] for n in ([name] if name else MODELS)}
        if as_json:
            print_json({n: asdict(entry) for n, entry in chosen.items()})
            return
        table = Table("model", "family", "backbone", "context", "embedding", "weights")
        for n, entry in chosen.items():
            table.add_row(n, entry.family, entry.backbone, str(entry.context_length), str(entry.embed_dim), entry.where)
        Console().print(table)
        card = PACKAGED / f"{name}.md"
        if card.is_file():
            print(card.read_text("utf-8"))
