"""Options of `clipbias probe`, a type each, with what the help says of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clipbias.cli import complete

Probes = Annotated[
    list[str] | None,
    typer.Argument(help="Probes, suites, TOML files, or all.", autocompletion=complete.probes),
]
Models = Annotated[
    list[str] | None,
    typer.Option("--model", "-m", help="A model; repeatable.", autocompletion=complete.models),
]
ModelFile = Annotated[Path | None, typer.Option(help="A file with a model per line; a failing one is passed over.")]
Data = Annotated[
    str | None,
    typer.Option(help="A data set; default: DOCCI if configured, else scenes-2.", autocompletion=complete.datasets),
]
DataFile = Annotated[Path | None, typer.Option(help="A file with a data set per line.")]
Root = Annotated[Path | None, typer.Option(help="The data set's folder.")]
Split = Annotated[str | None, typer.Option(help="Which part of the data set.")]
ReaderOptions = Annotated[list[str] | None, typer.Option(help="An option of the data's reader, name=value.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave out images that cannot be read.")]
Limit = Annotated[int, typer.Option(min=0, help="Only the first N images; recorded, never mixed with whole runs.")]
Weights = Annotated[Path | None, typer.Option(help="The model's checkpoint file.")]
ModelOptions = Annotated[
    list[str] | None, typer.Option(help="An option of the model's family, name=value, e.g. context=77.")
]
Revision = Annotated[str | None, typer.Option(help="Commit or tag of the model's hub repository.")]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run the Python code of an hf: or st: repository.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")]
Precision = Annotated[str, typer.Option(help="fp32, bf16 or fp16.")]
BatchSize = Annotated[
    int | None, typer.Option(min=1, help="Texts or images in a batch; default: what suits the device.")
]
Compile = Annotated[
    bool, typer.Option("--compile", help="Compile the towers (torch.compile); pays on GPUs and many images.")
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the resampling.")]
Out = Annotated[Path, typer.Option(help="Results folder.")]
Cache = Annotated[bool, typer.Option(help="Cache embeddings, and use cached ones (clipbias cache).")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be run and encoded.")]
List = Annotated[bool, typer.Option("--list", help="List the probes.")]
