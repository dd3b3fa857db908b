"""`clipbias report` and `clipbias compare`: from results to figures, tables and differences."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the subcommands."""

    @app.command()
    def report(
        out: Annotated[Path, typer.Option(help="Where the report is written.")] = Path("figures"),
        results: Annotated[list[Path] | None, typer.Option(help="Results folders; again for more.")] = None,
    ) -> None:
        """Write the figures, the leaderboard and index.html from all results found."""
        from clipbias.report.build import build_report

        drawn = build_report(results or [Path("results")], out)
        for figure in drawn:
            print(f"{out / figure.stem}.png, .svg, .pdf, .csv")
        print(f"{out / 'leaderboard.md'}, .csv\n{out / 'index.html'}")

    @app.command()
    def compare(
        first: Annotated[Path, typer.Argument(help="A run folder.")],
        second: Annotated[Path, typer.Argument(help="Another run folder of the same probe and data.")],
    ) -> None:
        """Paired differences between two runs: R@1 with 95% interval and exact McNemar p, per condition."""
        from clipbias.probe.compare import compare_runs, print_comparison

        print_comparison(compare_runs(first, second))
