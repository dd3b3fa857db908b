"""`clipbias report`: figures, tables and a page from results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clipbias.cli.console import AsCsv, AsJson, say


def register(app: typer.Typer) -> None:
    """Add the subcommand."""

    @app.command()
    def report(
        out: Annotated[Path, typer.Option(help="Where the report is written.")] = Path("figures"),
        results: Annotated[list[Path] | None, typer.Option(help="Results folders; repeatable.")] = None,
        order: Annotated[list[str] | None, typer.Option(help="A model to show first; repeatable.")] = None,
        examples: Annotated[int, typer.Option(min=0, help="Captions per probe in the page's browser.")] = 8,
        style: Annotated[str, typer.Option(help="Type and size of the static figures: paper or talk.")] = "paper",
        width: Annotated[str, typer.Option(help="Width of figures of one panel: column or page.")] = "column",
        titles: Annotated[bool, typer.Option("--titles/--no-titles", help="Titles above the static figures.")] = True,
        site: Annotated[
            Path | None,
            typer.Option(help="Write a site into this folder: a front page, a page per model and per data set."),
        ] = None,
        dark: Annotated[bool, typer.Option("--dark", help="Each static figure also on a dark ground.")] = False,
        formats: Annotated[
            list[str] | None,
            typer.Option("--format", help="Only these kinds of figures and SVG: png, svg, pdf; repeatable."),
        ] = None,
        as_json: AsJson = False,
        as_csv: AsCsv = False,
    ) -> None:
        """Write figures, leaderboard and index.html from all results."""
        from clipbias.cli.console import note, printed
        from clipbias.report.build import build_report
        from clipbias.report.style import FORMATS, Look

        look = Look(style, width, titles, formats=tuple(formats or FORMATS))
        out = out if site is None else site
        drawn = build_report(results or [Path("results")], out, order or [], examples, look, dark, site is not None)
        figures = out if site is None else out / "figures"
        kinds: dict[Path, tuple[str, ...]] = {figures / figure.stem: (*look.kinds, "csv") for figure in drawn}
        kinds |= {figures / "cards": ("md", "csv"), figures / "leaderboard": ("md", "csv", "tex")}
        kinds |= {out / "index": ("html",)}
        records = [
            {"name": stem.name, "kind": kind, "path": f"{stem}.{kind}"} for stem, ends in kinds.items() for kind in ends
        ]
        if printed(records, as_json, as_csv):
            return
        for stem, (first, *others) in kinds.items():
            say(", .".join([f"{stem}.{first}", *others]))
        if site is not None:
            say(f"{out / 'models'}/, {out / 'data'}/: a page each")
            note(f"next: put {out} on any static host")
            return
        note(f"next: open {out / 'index.html'} in a browser, or `clipbias compare MODEL MODEL` for a paired test")
