"""`clipbias data pack`: resized pixels, written once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clipbias.cli.console import say


def register(group: typer.Typer) -> None:
    """Add the subcommand to `clipbias data`."""

    @group.command("pack")
    def pack_(
        name: Annotated[str, typer.Argument(help="A data set, or a path.")],
        model: Annotated[str, typer.Option(help="The model whose resizing is applied.")],
        out: Annotated[Path, typer.Option(help="Where the pack is written.")],
        weights: Annotated[Path | None, typer.Option(help="The model's checkpoint file.")] = None,
        root: Annotated[Path | None, typer.Option(help="The data set's folder.")] = None,
        split: Annotated[str | None, typer.Option(help="Which part of it.")] = None,
        option: Annotated[list[str] | None, typer.Option(help="An option of the reader, name=value.")] = None,
        workers: Annotated[int, typer.Option(min=0, help="Decoding threads; 0: one per core, at most 16.")] = 0,
    ) -> None:
        """Write a data set's resized pixels once, for --option pack=DIR.

        Later runs decode nothing.
        """
        from clipbias.cli.console import pairs, progress_bar
        from clipbias.data.loading import load_dataset
        from clipbias.data.pack import needed, write_pack
        from clipbias.errors import UserError
        from clipbias.models.loading import load_model
        from clipbias.results.settings import RESERVED

        transform = getattr(load_model(model, weights=weights, device="cpu"), "transform", None)
        if transform is None or not hasattr(transform, "resized"):
            raise UserError(f"{model}: its image transform is its own; only models with a stated one can be packed for")
        dataset = load_dataset(name, root=root, split=split, **pairs(option, "--option", RESERVED["options"]))
        height, width = transform.size
        say(f"{len(dataset.image_names):,} images, {needed(dataset, height, width) / 1e9:,.2f} GB in {out}")
        with progress_bar() as progress:
            write_pack(dataset, out, transform.geometry(), transform.resized, height, width, workers or None, progress)
        say(f"packed: use it with --data {name} --option pack={out}")
