"""The `clipbias` command: its subcommands, its exit codes, its messages."""

from __future__ import annotations

import errno
import importlib
import os
import pkgutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import clipbias.cli

_FIRST = ("demo", "probe", "compare", "card", "report", "leaderboard", "finetune", "models", "data", "results")
_FOUND = {module.name for module in pkgutil.iter_modules(clipbias.cli.__path__)}
_HELPERS = {"app", "console", "complete", "options", "tables", "reference"}
COMMANDS = (*_FIRST, *sorted(_FOUND - set(_FIRST) - _HELPERS))
"""Modules of subcommands, in the order of the help text; a new file in this folder is found by itself."""

PREFIX = "CLIPBIAS"
"""Of the variables that set options."""
_GLOBAL = ("--debug", "--quiet", "-q")
_GLOBAL_WITH_VALUE = ("--config",)


def hoisted(arguments: list[str]) -> list[str]:
    """The arguments with the global options in front, wherever they stood before ``--``."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    front, rest, place = [], [], 0
    while place < end:
        word = arguments[place]
        count = 1
        if word in _GLOBAL or word.startswith(tuple(f"{option}=" for option in _GLOBAL_WITH_VALUE)):
            front.append(word)
        elif word in _GLOBAL_WITH_VALUE and place + 1 < end:
            front += arguments[place : place + 2]
            count = 2
        else:
            rest.append(word)
        place += count
    return [*front, *rest, *arguments[end:]]


class Commands(TyperGroup):
    """The top group: global options anywhere, and help without environment variables."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """See `TyperGroup.parse_args`."""
        return super().parse_args(ctx, hoisted(args))

    def get_params(self, ctx: Any) -> Any:
        """See `TyperGroup.get_params`."""
        _without_variables(self)
        return super().get_params(ctx)

    def list_commands(self, ctx: Any) -> list[str]:
        """Groups stand between the commands, where `COMMANDS` has them."""
        return sorted(super().list_commands(ctx), key=COMMANDS.index)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """See `TyperGroup.get_command`."""
        return _without_variables(super().get_command(ctx, cmd_name), f"{PREFIX}_{cmd_name}")


def _without_variables(command: Any, prefix: str = "") -> Any:
    """The command; its help names no variables, and they are named by its options: --out is ``CLIPBIAS_PROBE_OUT``."""
    for parameter in getattr(command, "params", ()):
        parameter.show_envvar = False
        if prefix and parameter.param_type_name == "option" and (key := option_key(parameter)) != "help":
            parameter.envvar = f"{prefix}_{key}".upper().replace("-", "_")
    for word, inner in getattr(command, "commands", {}).items():
        _without_variables(inner, f"{prefix}_{word}" if prefix else "")
    return command


app = typer.Typer(
    name="clipbias",
    cls=Commands,
    help="Measure position bias of image-text models on long captions, and mitigate it by fine-tuning.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # Plain help: rich takes a quarter of a second to import, as long as everything else together.
    rich_markup_mode=None,
    # Every option can be set by the environment too: CLIPBIAS_PROBE_OUT is --out of `clipbias probe`.
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": PREFIX},
)

for _command in COMMANDS:
    importlib.import_module(f"clipbias.cli.{_command}").register(app)


def _print_version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        typer.echo(f"clipbias {version('clipbias')}")
        raise typer.Exit


def _names_code(value: object) -> bool:
    """Whether a model, or one of several, is a ``module:function``, which is imported and run."""
    from clipbias.models.libraries import LIBRARIES

    names = value if isinstance(value, list) else [value]
    return any(isinstance(name, str) and ":" in name and not name.startswith(tuple(LIBRARIES)) for name in names)


def option_key(parameter: Any) -> str:
    """What a configuration calls a command's parameter: --model-option is model-option, an argument has its name."""
    long = [option for option in getattr(parameter, "opts", ()) if option.startswith("--")]
    return max(long, key=len).removeprefix("--") if long else str(parameter.name)


def option_keys(command: Any) -> dict[str, str]:
    """`option_key` of a command's parameters -> their internal names."""
    parameters = getattr(command, "params", ())
    return {option_key(one): str(one.name) for one in parameters if option_key(one) != "help"}


def _apply_config(context: typer.Context, path: Path) -> None:
    """Take the options of a TOML file, a table a command, as defaults.

    Raises:
        UserError: not readable, no such command, or an option that the command does not have.
    """
    from clipbias.errors import UserError
    from clipbias.formats import read_toml

    try:
        content = read_toml(path)
    except UserError as error:
        raise UserError(f"{error}; not a readable configuration") from error

    def internal(command: object, table: object, place: str) -> dict[str, Any]:
        if not isinstance(table, dict):
            raise UserError(f"{path}: [{place}] must be a table of options")
        inner = getattr(command, "commands", {})
        keys = option_keys(command)
        out: dict[str, Any] = {}
        for key, value in table.items():
            if key in inner:
                out[key] = internal(inner[key], value, f"{place}.{key}".lstrip("."))
            elif place and key.replace("_", "-") in keys:
                if key == "models" or (key in ("model", "base") and _names_code(value)):
                    raise UserError(
                        f"{path}: [{place}] {key} = {value!r} would run code; a file may not ask for that, "
                        "give it on the command line"
                    )
                out[keys[key.replace("_", "-")]] = value
            else:
                where = f"[{place}]" if place else "the file"
                raise UserError(f"{path}: {where} has {key!r}; known are {', '.join([*inner, *keys])}")
        return out

    context.default_map = internal(context.command, content, "")


@app.callback()
def options(
    context: typer.Context,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks instead of one-line errors.", show_envvar=False)
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Results only: no progress, no notes.", show_envvar=False)
    ] = False,
    config: Annotated[
        Path | None,
        typer.Option(
            help="Options of commands from a TOML file: [probe] with out = 'here' sets --out of probe.",
            show_envvar=False,
        ),
    ] = None,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and stop.", show_envvar=False
        ),
    ] = False,
) -> None:
    """Options of every command; they may also stand behind it."""
    import logging

    from clipbias.cli.console import OneLine

    logger = logging.getLogger("clipbias")
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(OneLine("clipbias: %(message)s"))
        logger.addHandler(handler)
        logger.propagate = False
    logger.setLevel(logging.ERROR if quiet else logging.INFO)
    if config is not None:
        _apply_config(context, config)


def _answer_signals() -> None:
    """SIGTERM and SIGHUP end as an interrupt does: temporary files are removed, a line is said, the code is 128 + n."""
    import signal

    def stop(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        # nohup asks for SIGHUP to be ignored, and that is kept.
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, stop)


def _debugging() -> bool:
    arguments = sys.argv[1:]
    before = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--debug" in before or os.environ.get("CLIPBIAS_DEBUG", "").lower() in ("1", "true", "yes", "on")


_OUTPUT = {errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EFBIG, errno.EBADF}
"""What writing to stdout may end in, beside a closed pipe."""


def _lost_output() -> int | None:
    """Write what stdout still holds; where it cannot be, say so once and return the exit code, 0 for a closed pipe."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = 0
    except OSError as error:
        with suppress(OSError):
            print(f"clipbias: the output cannot be written ({error.strerror})", file=sys.stderr)
        code = 2
    else:
        return None
    # The interpreter flushes once more at its end, and would exit with 120.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def main() -> None:
    """Run the command line; exit codes: 0 done, 1 a check failed, 2 wrong use or bad input, 128 + n on a signal."""
    from clipbias.errors import CheckFailed, UserError

    _answer_signals()
    # Threads of one computation wait for each other. By default they spin, and where another process has one of their
    # cores that takes several times as long; PyTorch's OpenMP reads this when it is first imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app(prog_name="clipbias")
    except (KeyboardInterrupt, SystemExit) as stop:
        # An interrupt inside a command comes as the exit that Typer made of it.
        if (lost := _lost_output()) is not None and not getattr(stop, "code", 0):
            sys.exit(lost)
        code = 130 if isinstance(stop, KeyboardInterrupt) else stop.code
        if type(sys.stdout).__name__ == "PacifyFlushWrapper":
            sys.exit(0)  # a closed pipe, of which Typer made the code 1
        words = {130: "interrupted", 143: "ended by SIGTERM", 129: "ended by SIGHUP"}.get(code)  # type: ignore[arg-type]
        if words is not None:
            with suppress(OSError):  # a terminal that hung up
                print(f"{words}; what was finished is kept", file=sys.stderr)
        sys.exit(code)
    except BrokenPipeError:
        _lost_output()
        sys.exit(0)
    except Exception as error:
        if _debugging():
            raise
        from clipbias.cli.console import say

        if isinstance(error, (UserError, CheckFailed)):
            message = str(error)
        elif isinstance(error, OSError) and error.filename is None and error.errno in _OUTPUT:
            message = f"the output cannot be written ({error.strerror}); what was finished is kept"
        elif isinstance(error, MemoryError):
            message = f"not enough memory {error}".rstrip() + "; what was finished is kept, run again with more"
        else:
            # Nobody's input in particular: a fault of clipbias, of a package, or of a user's own model.
            what = " ".join(f"{type(error).__name__}: {error}".split())
            message = f"unexpected {what}; what was finished is kept, --debug shows where it happened"
        # Names and captions in messages come from files of anybody: nothing in them may drive the terminal.
        with suppress(OSError):
            say(f"clipbias: {message}", err=True)
        _lost_output()
        sys.exit(1 if isinstance(error, CheckFailed) else 2)
