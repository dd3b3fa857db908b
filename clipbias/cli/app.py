"""The `clipbias` command: its subcommands, its exit codes, its messages."""

from __future__ import annotations

import importlib
import sys
from typing import Annotated

import typer

COMMANDS = ("models", "data", "probe", "finetune", "report", "demo", "selftest", "cache")

app = typer.Typer(
    name="clipbias",
    help="Measure how image-text models read long captions, and mend what they read badly.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for _command in COMMANDS:
    importlib.import_module(f"clipbias.cli.{_command}").register(app)


def _print_version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        typer.echo(f"clipbias {version('clipbias')}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks instead of one-line errors.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Options that stand before the subcommand."""
    import logging

    logger = logging.getLogger("clipbias")
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("clipbias: %(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False


def main() -> None:
    """Run the command line; exit codes: 0 done, 1 a check failed, 2 wrong use or bad input, 130 interrupted."""
    from clipbias.errors import CheckFailed, UserError

    debug = "--debug" in sys.argv[1:]
    try:
        app()
    except (KeyboardInterrupt, SystemExit) as stop:
        # An interrupt inside a command comes as the exit that Typer made of it.
        code = 130 if isinstance(stop, KeyboardInterrupt) else stop.code
        if code == 130:
            print("interrupted; what was finished is kept", file=sys.stderr)
        sys.exit(code)
    except (UserError, CheckFailed) as error:
        if debug:
            raise
        from clipbias.cli.console import plain

        # Names and captions in messages come from files of anybody: nothing in them may drive the terminal.
        print("\n".join(map(plain, f"clipbias: {error}".split("\n"))), file=sys.stderr)
        sys.exit(1 if isinstance(error, CheckFailed) else 2)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
