"""`clipbias data get`: download what is free of a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clipbias.cli.console import say


def register(group: typer.Typer) -> None:
    """Add the subcommand to `clipbias data`."""

    @group.command()
    def get(
        name: Annotated[str, typer.Argument(help="A data set.")],
        root: Annotated[
            Path | None, typer.Option(help="Where it goes; default: its place below CLIPBIAS_DATA.")
        ] = None,
        list_only: Annotated[bool, typer.Option("--list", help="Only say what would be downloaded.")] = False,
    ) -> None:
        """Download what is free, and say what to do for the rest.

        Files are checked and unpacked. An interrupted download resumes with the same command.
        """
        import os

        from clipbias.cli.console import progress_bar
        from clipbias.data.download import fetch, sources
        from clipbias.data.loading import dataset_spec
        from clipbias.data.roots import DATA_VARIABLE
        from clipbias.errors import UserError

        spec = dataset_spec(name)
        files, steps = sources(name)
        base = os.environ.get(DATA_VARIABLE)
        if root is None and files and not list_only:
            if not base:
                raise UserError(f"where should {name} go? Pass a folder with --root, or set {DATA_VARIABLE}")
            root = Path(base) / name
        if files:
            say(f"{name}: {spec.title}. Licence: {spec.licence}. {spec.homepage}")
        for file in files:
            size = f", {file.bytes:,} bytes" if file.bytes else ""
            if list_only:
                say(f"{file.url}{size}{', unpacked' if file.unpack else ''}")
                continue
            assert root is not None
            with progress_bar() as progress:
                fresh = fetch(file, root.expanduser(), progress)
            say(f"{file.name}: {'downloaded and checked' if fresh else 'is there already'}")
        if steps:
            say(steps if not files else f"What is left to do by hand:\n{steps}")
        if files and not list_only:
            say(f"compare it with the protocol: clipbias data check {name} --root {root}")
