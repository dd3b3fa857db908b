"""`clipbias data list`: the registered data sets."""

from __future__ import annotations

import typer

from clipbias.cli.console import AsCsv, AsJson, print_table


def register(group: typer.Typer) -> None:
    """Add the subcommand to `clipbias data`."""

    @group.command("list")
    def list_(as_json: AsJson = False, as_csv: AsCsv = False) -> None:
        """List data sets, their licences, and whether they are here."""
        from clipbias.cli.console import note, printed
        from clipbias.data.loading import DATASETS, dataset_spec
        from clipbias.data.roots import DATA_VARIABLE, configured_root

        records: list[dict[str, object]] = []
        for name in DATASETS:
            spec = dataset_spec(name)
            root = configured_root(name) if spec.needs_root else None
            here = root is not None or not spec.needs_root
            facts = {"title": spec.title, "licence": spec.licence, "available": here, "root": root and str(root)}
            records.append({"name": name, **facts})
        if printed(records, as_json, as_csv):
            return
        places = [one["root"] or ("made by clipbias" if one["available"] else "no") for one in records]
        rows = [(one["name"], one["title"], one["licence"], at) for one, at in zip(records, places, strict=True)]
        print_table(("data set", "what it is", "licence", "here"), rows, width=200)
        note(f"a set is found below the folder that {DATA_VARIABLE} names, or with --root; or give a path as --data")
