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

from clipbias.names import for_csv, for_json, for_terminal

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


def note(text: str) -> None:
    """A line beside the results, left out by ``--quiet``."""
    if not quiet():
        say(text)


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    title: str = "",
    right: Collection[str] = (),
    whole: Collection[str] = (),
    width: int = 160,
) -> None:
    """Print a table.

    Args:
        columns: the headers.
        rows: the cells, as many as columns; shown as they are, never as markup.
        title: above it.
        right: columns that stand to the right.
        whole: columns that are not broken over lines.
        width: in a file or a pipe, where there is no edge to keep to; a terminal has its own.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(for_terminal(title)) if title else None, title_justify="left", box=None, padding=(0, 1))
    for name in columns:
        table.add_column(Text(for_terminal(name)), justify="right" if name in right else "left", no_wrap=name in whole)
    for row in rows:
        table.add_row(*(Text(for_terminal(cell)) for cell in row))
    console = Console()
    Console(width=None if console.is_terminal else width).print(table)


class OneLine(logging.Formatter):
    """Log records for a terminal, a line each."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        return "\n".join(map(for_terminal, super().format(record).split("\n")))


def print_json(value: object) -> None:
    """A value as JSON on stdout."""
    print(for_json(value))


def print_csv(records: Sequence[Mapping[str, object]]) -> None:
    """Records of the same keys as CSV on stdout."""
    import csv

    writer = csv.writer(sys.stdout, lineterminator="\n")
    keys = list(dict.fromkeys(key for record in records for key in record))
    writer.writerow(keys)
    for record in records:
        writer.writerow([for_csv(_cell(record.get(key))) for key in keys])


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list, tuple)) else value


def printed(records: Sequence[Mapping[str, object]], as_json: bool, as_csv: bool) -> bool:
    """Print records for programs if one of the switches asks for it; whether it did.

    Raises:
        UserError: both do.
    """
    from clipbias.errors import UserError

    if as_json and as_csv:
        raise UserError("choose --json or --csv, not both")
    if as_json:
        print_json(list(records))
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
