"""`clipbias data check`: what lies on disk against the protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clipbias.cli.console import AsCsv, AsJson, print_table, say


def register(group: typer.Typer) -> None:
    """Add the subcommand to `clipbias data`."""

    @group.command()
    def check(
        name: Annotated[str, typer.Argument(help="A data set, or a path.")],
        root: Annotated[Path | None, typer.Option(help="The data set's folder.")] = None,
        split: Annotated[str | None, typer.Option(help="Which part of it.")] = None,
        images: Annotated[bool, typer.Option(help="Decode every image.")] = True,
        option: Annotated[list[str] | None, typer.Option(help="An option of the reader, name=value.")] = None,
        as_json: AsJson = False,
        as_csv: AsCsv = False,
    ) -> None:
        """Compare what lies on disk with the protocol (exit code 1)."""
        from dataclasses import asdict

        from clipbias.cli.console import pairs, printed, progress_bar
        from clipbias.data.check import check_dataset
        from clipbias.data.loading import DATASETS, dataset_spec, load_dataset
        from clipbias.data.spec import DatasetSpec
        from clipbias.errors import CheckFailed
        from clipbias.results.settings import RESERVED

        options = pairs(option, "--option", RESERVED["options"])
        dataset = load_dataset(name, root=root, split=split, **options)
        spec = dataset_spec(name) if name in DATASETS else DatasetSpec(load_dataset)
        with progress_bar() as progress:
            findings = check_dataset(dataset, spec, options, images, progress)
        records = [asdict(one) for one in findings]
        facts = {"protocol": dataset.protocol, "fingerprint": dataset.fingerprint}
        if not printed(records, as_json, as_csv, whole={**facts, "findings": records}):
            say(f"{dataset.protocol}; fingerprint {dataset.fingerprint}")
            rows: list[tuple[str, ...]] = []
            for one in findings:
                rows.append((one.what, one.found, one.expected, "ok" if one.fine else "DIFFERS"))
                rows += [(f"  {example}", "", "", "") for example in one.examples]
            print_table(("", "found", "protocol", ""), rows)
        wrong = [one.what for one in findings if not one.fine]
        if wrong:
            raise CheckFailed(f"{name} is not what the protocol used: {', '.join(wrong)}")
