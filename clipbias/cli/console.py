"""What every subcommand prints with: results to stdout, progress to stderr, captions defused."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import typer


def plain(text: str) -> str:
    """A text from data as one harmless line: control and escape characters become visible marks."""
    line = " " * (len(text) - len(text.lstrip(" "))) + " ".join(text.split())
    return "".join("�" if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co") else c for c in line)


def print_json(value: object) -> None:
    """A value as JSON, on stdout."""
    print(json.dumps(value, ensure_ascii=False, indent=1))


@contextmanager
def progress_bar() -> Iterator[Callable[[str, int, int], None]]:
    """A progress callback (what, done, total) that draws bars on stderr where that is a terminal.

    One bar for each ``what`` up to its first comma; the rest is free to change.
    """
    import click
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    context = click.get_current_context(silent=True)
    quiet = context is not None and bool(context.find_root().params.get("quiet"))
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as progress:
        tasks: dict[str, int] = {}

        def show(what: str, done: int, total: int) -> None:
            name = what.partition(",")[0]
            if name not in tasks:
                tasks[name] = progress.add_task(what, total=total)
            progress.update(tasks[name], description=what, completed=done, total=total or None)  # type: ignore[arg-type]

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
