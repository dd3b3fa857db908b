"""`clipbias data sentences`: how long captions are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clipbias.cli.console import AsCsv, AsJson, say

if TYPE_CHECKING:
    from clipbias.data.dataset import RetrievalDataset

MARKS = (0, 5, 25, 50, 75, 95, 100)
"""Percentiles that are shown."""


def register(group: typer.Typer) -> None:
    """Add the subcommand to `clipbias data`."""

    @group.command()
    def sentences(
        name: Annotated[str, typer.Argument(help="A data set, or a path.")],
        root: Annotated[Path | None, typer.Option(help="The data set's folder.")] = None,
        split: Annotated[str | None, typer.Option(help="Which part of it.")] = None,
        option: Annotated[list[str] | None, typer.Option(help="An option of the reader, name=value.")] = None,
        as_json: AsJson = False,
        as_csv: AsCsv = False,
    ) -> None:
        """Say how long the captions are, and what contexts cut.

        Sentences, CLIP tokens, where the first sentence ends, and the share beyond 77 and 248 tokens.
        """
        from clipbias.cli.console import pairs, printed
        from clipbias.data.loading import load_dataset
        from clipbias.results.settings import RESERVED

        dataset = load_dataset(name, root=root, split=split, **pairs(option, "--option", RESERVED["options"]))
        lengths, shares = _measured(dataset)
        records = [{"measure": measure.replace(" ", "_"), **marks} for measure, marks in lengths.items()]
        records += [{"measure": measure.replace(" ", "_"), "share": share} for measure, share in shares.items()]
        if printed(records, as_json, as_csv):
            return
        say(dataset.protocol)
        say(f"{'':34}{'mean':>7}" + "".join(f"{f'{mark}%':>6}" for mark in MARKS))
        for measure, marks in lengths.items():
            say(f"{measure:34}{marks['mean']:7.1f}" + "".join(f"{marks[f'p{mark}']:6.0f}" for mark in MARKS))
        for measure, share in shares.items():
            say(f"{measure:34}{share:7.1%}")


def _measured(dataset: RetrievalDataset) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """Mean and percentiles of each length, and shares of captions."""
    import numpy as np

    from clipbias.models.tokenizer import clip_token_lists

    sentences = dataset.caption_sentences
    counts = np.array([len(s) for s in sentences])
    tokens = np.array([len(ids) + 2 for ids in clip_token_lists(dataset.captions)])
    first = np.array([len(ids) + 1 for ids in clip_token_lists([s[0] for s in sentences])])
    named = {
        "sentences a caption": counts,
        "CLIP tokens a caption": tokens,
        "the first sentence ends at token": first,
    }
    lengths = {
        measure: {"mean": float(values.mean())} | {f"p{mark}": float(np.percentile(values, mark)) for mark in MARKS}
        for measure, values in named.items()
    }
    shares = {f"captions beyond {limit} tokens": float((tokens > limit).mean()) for limit in (77, 248)}
    return lengths, shares | {"captions under 4 sentences": float((counts < 4).mean())}
