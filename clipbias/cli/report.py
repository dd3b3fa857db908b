"""`clipbias report`, `card`, `leaderboard` and `compare`: from results to figures, tables and differences."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clipbias.cli.console import print_table, say

if TYPE_CHECKING:
    import pandas as pd


def register(app: typer.Typer) -> None:
    """Add the subcommands."""

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
    ) -> None:
        """Write the figures, the leaderboard and index.html from all results found."""
        from clipbias.errors import UserError
        from clipbias.report.build import build_report
        from clipbias.report.style import Look

        for name, value, known in (("style", style, ("paper", "talk")), ("width", width, ("column", "page"))):
            if value not in known:
                raise UserError(f"--{name} {value}: choose {' or '.join(known)}")
        look = Look(style, width, titles)
        out = out if site is None else site
        drawn = build_report(results or [Path("results")], out, order or [], examples, look, dark, site is not None)
        figures = out if site is None else out / "figures"
        for figure in drawn:
            say(f"{figures / figure.stem}.png, .svg, .pdf, .csv")
        say(f"{figures / 'cards.md'}, .csv")
        say(f"{figures / 'leaderboard.md'}, .csv, .tex\n{out / 'index.html'}")
        if site is not None:
            say(f"{out / 'models'}/, {out / 'data'}/: a page each\nnext: put {out} on any static host")
            return
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
        say("next: `clipbias compare MODEL MODEL` tests two models against each other, `clipbias report` draws all")

    @app.command()
    def leaderboard(
        results: Annotated[
            list[Path] | None, typer.Option(help="Results folders; default: the leaderboard that ships.")
        ] = None,
        columns: Annotated[
            str, typer.Option(help="Measured columns to show, separated by commas; default: all that fit.")
        ] = "",
        as_json: Annotated[bool, typer.Option("--json", help="JSON output, every column.")] = False,
        as_csv: Annotated[bool, typer.Option("--csv", help="CSV output, every column.")] = False,
        latex: Annotated[bool, typer.Option("--latex", help="A booktabs table to paste.")] = False,
        markdown: Annotated[bool, typer.Option("--markdown", help="A Markdown table.")] = False,
    ) -> None:
        """Print the leaderboard of results, or the one that ships with clipbias and the published numbers."""
        from clipbias.cli.console import print_json
        from clipbias.report.tables import LATEX_COLUMNS, chosen, shown, to_csv, to_latex, to_markdown

        board = _board(results or [])
        wanted = chosen([name.strip() for name in columns.split(",") if name.strip()])
        if as_json:
            print_json(board.astype(object).where(board.notna(), None).to_dict("records"))
        elif as_csv:
            say(to_csv(board), end="")
        elif latex:
            say(to_latex(board, wanted or LATEX_COLUMNS), end="")
        elif markdown:
            say(to_markdown(shown(board, wanted)), end="")
        else:
            _print_board("measured" if results else "measured by clipbias demo", shown(board, wanted, "\n"))
            if not results:
                _print_published()
            folders = "".join(f" --results {folder}" for folder in results or [])
            say(f"next: `clipbias report{folders}` for figures and a page, or `clipbias compare MODEL MODEL`")

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
        if not queries:
            say(f"next: `clipbias compare {first} {second} --queries 5` names the captions that changed most")


def _board(results: list[Path]) -> pd.DataFrame:
    """The leaderboard of results; the one that ships, where none are named."""
    import pandas as pd

    from clipbias.report.load import all_rows
    from clipbias.report.tables import leaderboard
    from clipbias.results.card import cards
    from clipbias.results.folder import load_runs
    from clipbias.results.ranks import shared_ranks
    from clipbias.shipped import shipped

    if not results:
        return pd.read_csv(shipped("leaderboards") / "scenes.csv", dtype={"rank": str})
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
        about = f"{data}, {title}: R@k and reliance in %, changes in points, 95% intervals\n{protocol}"
        table = part.drop(columns=["data", "protocol"])
        names = list(map(str, table.columns))
        numbers = [name for name in names if name not in ("rank", "model")]
        print_table(names, table.itertuples(index=False), about, right=numbers, whole=names, stacked=numbers,
                    first_out=_FIRST_OUT, more="--csv has all, --columns chooses")  # fmt: skip


def _print_published() -> None:
    """Published R@1 on whole captions."""
    from clipbias.results.published import lines, read_published

    names = ("data", "model", "backbone", "T2I R@1", "I2T R@1", "protocol", "source")
    rows = [line[: len(names)] for line in lines(read_published())]
    print_table(names, rows, "\npublished, not measured", right=names[3:5], whole=names[:5], width=200,
                first_out=("protocol", "source", "I2T R@1"), more="`clipbias published --csv` has all")  # fmt: skip
