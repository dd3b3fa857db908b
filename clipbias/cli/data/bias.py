"""`clipbias data bias`: whether the first sentences of a data set's captions are summaries."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clipbias.cli.console import AsCsv, AsJson, say


def register(group: typer.Typer) -> None:
    """Add the subcommand to `clipbias data`."""

    @group.command()
    def bias(
        name: Annotated[str, typer.Argument(help="A data set, or a path.")],
        root: Annotated[Path | None, typer.Option(help="The data set's folder.")] = None,
        split: Annotated[str | None, typer.Option(help="Which part of it.")] = None,
        model: Annotated[str, typer.Option("--model", "-m", help="A text encoder, for cosines too.")] = "",
        as_json: AsJson = False,
        as_csv: AsCsv = False,
    ) -> None:
        """Test whether first sentences are summaries; reads no image."""
        from clipbias.cli.console import printed
        from clipbias.data.bias import summary_findings
        from clipbias.data.loading import load_dataset
        from clipbias.errors import UserError
        from clipbias.models.loading import load_model

        dataset = load_dataset(name, root=root, split=split)
        encoder = load_model(model) if model else None
        embed = None if encoder is None else lambda texts: encoder.encode_texts(texts).numpy()
        found = summary_findings(dataset.caption_sentences, dataset.caption_image, embed)
        if not found:
            raise UserError(f"{name}: no caption has three sentences")
        records = [{**one._asdict(), "interval": one.interval and one.interval._asdict()} for one in found]
        if printed(records, as_json, as_csv):
            return
        say(f"{dataset.protocol}; {found[0].captions:,} captions of three sentences or more")
        for one in found:
            ends = f" ({one.interval.low:.3f} to {one.interval.high:.3f})" if one.interval else ""
            say(f"{one.name:18} {one.value:8.3f}{ends}")
