"""`clipbias leaderboard`: models ranked, measured and published."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clipbias.cli.console import AsCsv, AsJson, print_table, say
from clipbias.names import for_terminal

if TYPE_CHECKING:
    import pandas as pd


def register(app: typer.Typer) -> None:
    """Add the subcommand."""

    @app.command()
    def leaderboard(
        results: Annotated[
            list[Path] | None, typer.Option(help="Results folders; default: the leaderboard that ships.")
        ] = None,
        columns: Annotated[
            str, typer.Option(help="Measured columns to show, separated by commas; default: all that fit.")
        ] = "",
        as_json: AsJson = False,
        as_csv: AsCsv = False,
        latex: Annotated[bool, typer.Option("--latex", help="A booktabs table to paste.")] = False,
        markdown: Annotated[bool, typer.Option("--markdown", help="A Markdown table.")] = False,
    ) -> None:
        """Print the leaderboard of results, or the one that ships.

        Beside the one that ships, the published numbers are shown; they were not measured. JSON and CSV hold every
        column.
        """
        from clipbias.cli.console import note, printed
        from clipbias.cli.tables import records_of
        from clipbias.report.tables import LATEX_COLUMNS, chosen, shown, to_latex, to_markdown

        board = _board(results or [])
        wanted = chosen([name.strip() for name in columns.split(",") if name.strip()])
        boards = {"measured": board} | ({} if results or not (as_json or as_csv) else {"published": _published()})
        records = [{"origin": origin, **one} for origin, part in boards.items() for one in records_of(part)]
        if printed(records, as_json, as_csv):
            return
        if latex:
            say(to_latex(board, wanted or LATEX_COLUMNS), end="")
        elif markdown:
            say(to_markdown(shown(board, wanted)), end="")
        else:
            _print_board("measured" if results else "measured by clipbias demo", shown(board, wanted, "\n"))
            if not results:
                _print_published()
            folders = "".join(f" --results {folder}" for folder in results or [])
            note(f"next: `clipbias report{folders}` for figures and a page, or `clipbias compare MODEL MODEL`")


def _board(results: list[Path]) -> pd.DataFrame:
    """The leaderboard of results; the one that ships, where none are named."""
    import pandas as pd

    from clipbias.report.load import all_rows
    from clipbias.report.tables import leaderboard
    from clipbias.results.card import cards
    from clipbias.results.folder import load_runs
    from clipbias.results.ranks import shared_ranks
    from clipbias.shipped import WORLD, shipped

    if not results:
        return pd.read_csv(shipped("leaderboards") / f"{WORLD}.csv", dtype={"rank": str})
    runs = load_runs(results)
    return leaderboard(all_rows(runs), shared_ranks(runs), cards(runs))


_FIRST_OUT = (
    "I2T R@10", "T2I R@10", "I2T R@5", "T2I R@5", "context", "I2T R@1", "padding change", "swap 1-4", "rank",
    "first-sentence reliance",
)  # fmt: skip
"""Of the leaderboard's columns, where not all fit."""


def _print_board(title: str, board: pd.DataFrame) -> None:
    """A leaderboard, a table per data set; intervals stand under their numbers."""
    for (data, protocol), part in board.groupby(["data", "protocol"], sort=False):
        about = f"{data}, {title}: R@k and reliance in %, changes in points, 95% intervals\n{for_terminal(protocol)}"
        table = part.drop(columns=["data", "protocol"])
        names = list(map(str, table.columns))
        numbers = [name for name in names if name not in ("rank", "model")]
        print_table(names, table.itertuples(index=False), about, right=numbers, whole=names, stacked=numbers,
                    first_out=_FIRST_OUT, more="--csv has all, --columns chooses")  # fmt: skip


def _print_published() -> None:
    """Published R@1 on whole captions."""
    names = ("data", "model", "backbone", "T2I R@1", "I2T R@1", "protocol", "source")
    print_table(names, _published()[list(names)].itertuples(index=False), "\npublished, not measured", right=names[3:5],
                whole=names[:5], width=200, first_out=("protocol", "source", "I2T R@1"),
                more="`clipbias published --csv` has all")  # fmt: skip


def _published() -> pd.DataFrame:
    """Published R@1 on whole captions, as texts."""
    import pandas as pd

    from clipbias.results.published import lines, read_published

    names = ["data", "model", "backbone", "T2I R@1", "I2T R@1", "protocol", "source", "ran by"]
    return pd.DataFrame(lines(read_published()), columns=names)
