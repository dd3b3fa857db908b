"""What every subcommand prints with: results to stdout, progress to stderr, captions defused."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from clipbias.names import flat, for_csv, for_json, for_terminal

AsJson = Annotated[bool, typer.Option("--json", help="JSON output.")]
AsCsv = Annotated[bool, typer.Option("--csv", help="CSV output.")]


def helps() -> bool:
    """Whether this process only helps process 0 under ``torchrun``; what is printed is printed once."""
    return os.environ.get("RANK", "0") != "0"


def quiet() -> bool:
    """Whether ``--quiet`` was given (results only), or another process tells."""
    return helps() or logging.getLogger("clipbias").level >= logging.ERROR


def say(text: object = "", end: str = "\n", err: bool = False) -> None:
    """Print a text; what comes from files of anybody in it drives no terminal. Nothing else in ``cli/`` prints."""
    lines = "\n".join(map(for_terminal, str(text).split("\n")))
    print(lines, end=end, flush=True, file=sys.stderr if err else sys.stdout)


def note(text: str, wrap: bool = False) -> None:
    """A line beside the results, left out by ``--quiet``; ``wrap``: `wrapped` where stdout is a terminal."""
    if not quiet():
        say(wrapped(text, terminal_width()) if wrap else text)


def wrapped(text: str, width: int | None) -> str:
    """Lines of at most ``width`` columns, broken at blanks, all but the first indented; None: the text as it is."""
    import textwrap

    if width is None:
        return text
    return textwrap.fill(text, max(width, 20), subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def terminal_width() -> int | None:
    """Columns of the terminal that stdout is; None where it is a file or a pipe."""
    from rich.console import Console

    console = Console()
    return console.width if console.is_terminal else None


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    title: str = "",
    right: Collection[str] = (),
    whole: Collection[str] = (),
    width: int = 160,
    first_out: Sequence[str] = (),
    stacked: Collection[str] = (),
    more: str = "",
) -> None:
    """Print a table. Where a terminal is too narrow columns are left out, and named below it; no digit is cut.

    Args:
        columns: the headers.
        rows: the cells, as many as columns; shown as they are, never as markup.
        title: above it.
        right: columns that stand to the right.
        whole: columns that are not broken over lines.
        width: in a file or a pipe, where there is no edge to keep to; a terminal has its own.
        first_out: columns that may be left out, the least needed first.
        stacked: columns whose cells have line ends of ours.
        more: how to see what was left out.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    def shown(cell: object, name: str) -> str:
        return "\n".join(map(for_terminal, str(cell).split("\n") if name in stacked else [cell]))

    table = [list(row) for row in rows]
    cells = [[shown(row[number], name) for row in table] for number, name in enumerate(columns)]
    least = [_needed(name, mine, name in whole) for name, mine in zip(columns, cells, strict=True)]
    edge = terminal_width()
    kept = fitting(columns, least, first_out, edge)
    drawn = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for number in kept:
        name = columns[number]
        drawn.add_column(
            Text(for_terminal(name)),
            justify="right" if name in right else "left",
            overflow="fold",
            width=least[number] if name in whole else None,
            min_width=least[number],
        )
    for line in range(len(table)):
        drawn.add_row(*(Text(cells[number][line]) for number in kept))
    if title:
        say(title)
    Console(width=max(edge or width, _total(least, kept))).print(drawn)
    if left := [name for number, name in enumerate(columns) if number not in kept]:
        say(f"left out in {edge} columns: {', '.join(left)}{f'; {more}' if more else ''}")


def _needed(name: str, cells: Sequence[str], whole: bool) -> int:
    """The least width of a column: long headings break at blanks, and so do cells of columns that are not whole."""
    pieces = [piece for cell in cells for piece in (cell.split("\n") if whole else cell.split())]
    head = [name] if len(name) <= 12 else name.split()
    return max(map(len, [*pieces, *head]), default=0)


def _total(least: Sequence[int], kept: Collection[int]) -> int:
    return sum(least[number] + 2 for number in kept)


def fitting(names: Sequence[str], least: Sequence[int], first_out: Sequence[str], edge: int | None) -> list[int]:
    """The numbers of the columns that fit.

    Args:
        names, least: headers and least widths of the columns.
        first_out: those that may be left out, the least needed first.
        edge: columns of the terminal, None where there is no edge.
    """
    kept = list(range(len(names)))
    for name in first_out:
        if edge is None or _total(least, kept) <= edge:
            break
        kept = [number for number in kept if names[number] != name]
    return kept


class OneLine(logging.Formatter):
    """Log records for a terminal, a line each."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        return "\n".join(map(for_terminal, super().format(record).split("\n")))


def print_json(value: object) -> None:
    """A value as JSON on stdout."""
    print(for_json(value))


def print_csv(records: Sequence[Mapping[str, object]]) -> None:
    """Records as CSV on stdout; cells that a spreadsheet would take for a formula are quoted.

    What lies in a record of a record is a column too: the ``low`` of its ``interval`` is ``interval_low``.
    """
    import csv

    writer = csv.writer(sys.stdout, lineterminator="\n")
    lines = [flat(record) for record in records]
    keys = list(dict.fromkeys(key for line in lines for key in line))
    writer.writerow(keys)
    for line in lines:
        writer.writerow([for_csv(_cell(line.get(key))) for key in keys])


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list, tuple)) else value


def printed(
    records: Sequence[Mapping[str, object]], as_json: bool, as_csv: bool, whole: Mapping[str, object] | None = None
) -> bool:
    """Print records as JSON or CSV if one of the switches asks for it; whether it did.

    Args:
        records: a line each; keys in snake_case, truth values as bool, what is not known as None.
        as_json, as_csv: the switches.
        whole: what JSON prints in their place, where there is more to say than a table holds.

    Raises:
        UserError: both do.
    """
    from clipbias.errors import UserError

    if as_json and as_csv:
        raise UserError("choose --json or --csv, not both")
    if as_json:
        print_json(list(records) if whole is None else whole)
    elif as_csv:
        print_csv(records)
    return as_json or as_csv


@contextmanager
def progress_bar() -> Iterator[Callable[[str, int, int], None]]:
    """A progress callback (what, done, total): bars on stderr where that is a terminal, a line a minute elsewhere.

    One bar for each ``what`` up to its first comma; the rest is free to change.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from clipbias.progress import Lines

    console = Console(stderr=True)
    if quiet() or not console.is_terminal:
        lines = Lines()
        yield lambda what, done, total: None if quiet() else lines(f"{for_terminal(what)} {done:,}/{total:,}")
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        tasks: dict[str, Any] = {}

        def show(what: str, done: int, total: int) -> None:
            name = what.partition(",")[0]
            if name not in tasks:
                tasks[name] = progress.add_task(for_terminal(what), total=total)
            progress.update(tasks[name], description=for_terminal(what), completed=done, total=total or None)

        yield show


def only_by_hand(context: typer.Context, name: str) -> None:
    """Refuse an option that was not typed on the command line: no configuration and no environment may give it.

    Raises:
        UserError: it comes from elsewhere.
    """
    from clipbias.errors import UserError

    source = context.get_parameter_source(name)
    if source is None or source.name != "COMMANDLINE":
        raise UserError(f"--{name.replace('_', '-')} counts only on the command line itself; it was set elsewhere")


def pairs(settings: list[str] | None, option: str, reserved: Sequence[str] = ()) -> dict[str, Any]:
    """``name=value`` settings as a dictionary of texts.

    Args:
        settings: as given.
        option: what they were given with.
        reserved: names that have an option of their own.

    Raises:
        UserError: one without an equals sign, or with a reserved name.
    """
    from clipbias.errors import UserError

    out: dict[str, Any] = {}
    for setting in settings or []:
        key, equals, value = setting.partition("=")
        if not equals:
            raise UserError(f"{option} {setting}: write it as {option} name=value")
        if key in reserved:
            raise UserError(f"{option} {setting}: {key} is no such setting, it has an option or argument of its own")
        out[key] = value
    return out
