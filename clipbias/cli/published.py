"""`clipbias published`: numbers that others reported, with their sources."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from clipbias.cli.console import AsCsv, AsJson, print_table, say

if TYPE_CHECKING:
    from clipbias.results.published import Published


def register(app: typer.Typer) -> None:
    """Add the subcommand."""

    @app.command()
    def published(
        data: Annotated[str, typer.Option(help="Of one data set, e.g. docci.")] = "",
        model: Annotated[str, typer.Option(help="Of one model, e.g. longclip-b16 or himo-clip.")] = "",
        as_json: AsJson = False,
        as_csv: AsCsv = False,
        markdown: Annotated[bool, typer.Option("--markdown", help="The page docs/published.md.")] = False,
    ) -> None:
        """Show published numbers, and where sources differ."""
        from dataclasses import asdict

        from clipbias.cli.console import printed
        from clipbias.errors import UserError
        from clipbias.results.published import chosen, conflicts, read_published
        from clipbias.results.published_page import page

        everything = read_published()
        numbers = chosen(everything, data, model)
        if not numbers:
            known = sorted({n.dataset for n in everything} if data else {n.registered or n.model for n in everything})
            asked = " on ".join(part for part in (model, data) if part)
            raise UserError(f"no published number of {asked} is known here; there are numbers of {', '.join(known)}")
        if printed([asdict(n) for n in numbers], as_json, as_csv):
            return
        if markdown:
            say(page(numbers), end="")
        else:
            _print(numbers, conflicts(numbers))


def _print(numbers: list[Published], differing: list[list[Published]]) -> None:
    """R@1 on whole captions as a table a data set; then every other number; then what differs."""
    from itertools import groupby

    from clipbias.data.loading import not_comparable
    from clipbias.results.published import lines

    for data, group in groupby(lines(numbers), key=lambda line: line[0]):
        columns = ("model", "backbone", "T2I", "I2T", "protocol", "source", "ran by")
        rows = [line[1:] for line in group]
        print_table(columns, rows, f"{data}, R@1 %", right=("T2I", "I2T"), whole=columns[:4], width=200,
                    first_out=("ran by", "protocol", "source"), more="--csv has all")  # fmt: skip
        if apart := not_comparable(data):
            say(f"not comparable with numbers on {', '.join(apart)}")
        say()
    more = [n for n in numbers if (n.metric, n.condition) != ("recall@1", "") or not n.direction]
    if more:
        say("other measures")
    for n in more:
        what = ", ".join(part for part in (n.direction.upper(), n.metric, n.condition) if part)
        say(f"  {n.registered or n.model} {n.backbone} {n.dataset}: {what} {n.shown}  [{n.cited}]")
    if differing:
        say("\nsources that differ on the same weights")
    for same in differing:
        n = same[0]
        what = ", ".join(part for part in (n.direction.upper(), n.metric, n.condition) if part)
        say(f"  {n.registered or n.model} {n.backbone}, {n.dataset}, {what}")
        for n in same:
            say(f"    {n.shown:>8}  {n.protocol}  [{n.cited}; {n.ran_by}]{' ' + n.note if n.note else ''}")
