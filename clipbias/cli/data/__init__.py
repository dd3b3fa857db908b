"""`clipbias data`: one file per subcommand, each with `register(group)`; a new file is found by itself."""

from __future__ import annotations

import importlib
import pkgutil

import typer


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(help="Data sets: list, get, check, measure and look at them.", no_args_is_help=True)
    app.add_typer(group, name="data")
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}").register(group)
