"""`clipbias data show`: one image and its captions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clipbias.cli.console import say


def register(group: typer.Typer) -> None:
    """Add the subcommand to `clipbias data`."""

    @group.command()
    def show(
        name: Annotated[str, typer.Argument(help="A data set, e.g. scenes.")],
        index: Annotated[int, typer.Argument(help="Which image, from 0.")],
        root: Annotated[Path | None, typer.Option(help="The data set's folder.")] = None,
        split: Annotated[str | None, typer.Option(help="Which part of it.")] = None,
        out: Annotated[Path, typer.Option(help="Where the picture and the caption are written.")] = Path(),
    ) -> None:
        """Write one image, and print its captions by sentence."""
        from clipbias.data.loading import load_dataset
        from clipbias.errors import UserError
        from clipbias.files import atomic_path, write_text
        from clipbias.names import file_name

        dataset = load_dataset(name, root=root, split=split)
        if not 0 <= index < len(dataset.image_names):
            raise UserError(
                f"{name}, split {dataset.split}: images are numbered 0 to {len(dataset.image_names) - 1}, not {index}"
            )
        image = dataset.load_image(index)
        stem = file_name(f"{dataset.name}_{dataset.split}_{index}")
        mine = [k for k, owner in enumerate(dataset.caption_image) if owner == index]
        with atomic_path(out / f"{stem}.png") as path:
            image.save(path, format="PNG")
        write_text(out / f"{stem}.txt", "".join(dataset.captions[k] + "\n" for k in mine))
        sentences = dataset.caption_sentences
        for k in mine:
            for number, sentence in enumerate(sentences[k], 1):
                say(f"{number}. {' '.join(sentence.split())}")
        say(f"written: {out / f'{stem}.png'} and {out / f'{stem}.txt'}")
