"""`clipbias models`: the registered models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from clipbias.models.entry import ModelEntry


def register(app: typer.Typer) -> None:
    """Add the subcommand."""

    @app.command()
    def models(
        name: Annotated[str | None, typer.Argument(help="One model, shown in full.")] = None,
        as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    ) -> None:
        """List the models that have a name, where their weights come from, and whether they are here."""
        from rich.console import Console
        from rich.table import Table

        from clipbias.cli.console import print_json
        from clipbias.models.catalogue import MODELS
        from clipbias.models.entry import PACKAGED

        chosen = {n: _facts(MODELS[n]) for n in ([name] if name else MODELS)}
        if as_json:
            print_json(chosen)
            return
        if name:
            for key, value in chosen[name].items():
                print(f"{key + ':':18} {value}")
            card = PACKAGED / f"{name}.md"
            if card.is_file():
                print("\n" + card.read_text("utf-8"))
            return
        table = Table("model", "family", "backbone", "context", "dim", "here", "weights from", box=None, padding=(0, 1))
        for n, facts in chosen.items():
            keys = ("family", "backbone", "context length", "embedding size", "here", "source")
            table.add_row(n, *(str(facts[key]) for key in keys))
        console = Console()
        Console(width=None if console.is_terminal else 140).print(table)
        print(
            "also: openclip:NAME/TAG, hf:OWNER/NAME, st:NAME, a path, or module:function; "
            "`clipbias models NAME` shows one in full"
        )


def _facts(entry: ModelEntry | object) -> dict[str, str | int]:
    """What is known of a model without loading it."""
    from clipbias.models.entry import ModelEntry
    from clipbias.models.weights import local_weights

    if not isinstance(entry, ModelEntry):
        module, name = getattr(entry, "__module__", ""), getattr(entry, "__qualname__", repr(entry))
        unknown = {"backbone": "", "context length": "", "embedding size": "", "here": "yes"}
        return {
            "family": "user",
            **unknown,
            "source": f"{module}:{name}",
            "get it": "",
            "sha256": "",
            "revision": "",
            "note": "",
        }
    # Only open_clip knows where its files are, by trying.
    here = "?" if entry.family == "openclip" else "yes" if local_weights(entry, check=False) else "no"
    return {
        "family": entry.family,
        "backbone": entry.backbone,
        "context length": entry.context_length,
        "embedding size": entry.embed_dim,
        "here": here,
        "source": entry.source,
        "get it": entry.where,
        "sha256": entry.digest,
        "revision": entry.revision,
        "note": entry.note,
    }
