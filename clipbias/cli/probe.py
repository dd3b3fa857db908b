"""`clipbias probe`: perturb captions and measure what changes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from clipbias.results import Row

HEADLINE = "recall@1"


def register(app: typer.Typer) -> None:
    """Add the subcommand."""

    @app.command()
    def probe(
        names: Annotated[list[str] | None, typer.Argument(help="Probes, suites, TOML files, or all.")] = None,
        model: Annotated[list[str] | None, typer.Option("--model", "-m", help="A model; give it again for more.")] = None,
        data: Annotated[str | None, typer.Option(help="A data set; default: DOCCI where configured, else scenes.")] = None,
        root: Annotated[Path | None, typer.Option(help="The data set's folder.")] = None,
        split: Annotated[str | None, typer.Option(help="Which part of the data set.")] = None,
        weights: Annotated[Path | None, typer.Option(help="The model's checkpoint file.")] = None,
        device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
        precision: Annotated[str, typer.Option(help="fp32, bf16 or fp16.")] = "fp32",
        seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
        out: Annotated[Path, typer.Option(help="Results folder.")] = Path("results"),
        as_json: Annotated[bool, typer.Option("--json", help="Rows for programs.")] = False,
        list_: Annotated[bool, typer.Option("--list", help="List the probes.")] = False,
    ) -> None:
        """Run probes on models and write their results."""
        from dataclasses import asdict

        from clipbias.cli.console import print_json, progress_bar
        from clipbias.data.loading import default_dataset_name, load_dataset
        from clipbias.errors import UserError
        from clipbias.models.loading import load_model
        from clipbias.probe.runner import Session, run_probe
        from clipbias.probe.spec import find_probes, read_probe, shipped_probes
        from clipbias.results import read_rows

        if list_:
            for path in shipped_probes().values():
                listed = read_probe(path)
                print(f"{listed.name:12} {listed.title}")
            return
        if not names or not model:
            raise UserError("name a probe and a model: clipbias probe padding --model nano-longclip")
        if weights is not None and len(model) > 1:
            raise UserError("--weights belongs to one model; run the models one by one, or give paths as --model")
        probes = [p for name in names for p in find_probes(name)]
        encoders = [load_model(m, weights=weights, device=device, precision=precision) for m in model]
        chosen = data or default_dataset_name()
        dataset = load_dataset(chosen, root=root, split=split)
        if not as_json:
            print(f"data: {dataset.protocol}" + ("" if data else "  (no --data given)"))
        printed = []
        for encoder in encoders:
            with progress_bar() as progress:
                session = Session(encoder, dataset, seed, progress)
                command = f"clipbias probe {' '.join(p.name for p in probes)} --model {encoder.name} --data {chosen}"
                folders = [run_probe(session, p, out, command) for p in probes]
            for folder in folders:
                rows = read_rows(folder)
                if as_json:
                    printed += [{"model": encoder.name, **asdict(row)} for row in rows]
                else:
                    print_rows(encoder.name, rows)
        if as_json:
            print_json(printed)
        else:
            print(f"results: {out}")


def print_rows(model: str, rows: list[Row]) -> None:
    """One probe's headline rows as a table: R@1 on eligible captions, with what changed."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{rows[0].probe}: {model}", title_justify="left")
    for column in ("condition", "direction", "R@1 % (95%)", "", "change, points (95%)", "p (Holm)", "eligible", "R@1 all", "cut"):
        table.add_column(column, justify="left" if column in ("condition", "direction", "") else "right")
    everything = {(r.condition, r.direction): r for r in rows if r.metric == HEADLINE and r.scope == "all"}
    for row in rows:
        if row.metric != HEADLINE or row.scope != "eligible":
            continue
        assert row.low is not None and row.high is not None
        change = ""
        if row.delta is not None and row.delta_low is not None and row.delta_high is not None:
            change = f"{100 * row.delta:+.1f} ({100 * row.delta_low:+.1f} to {100 * row.delta_high:+.1f})"
        table.add_row(
            row.condition,
            row.direction.upper(),
            f"{100 * row.value:.1f} ({100 * row.low:.1f}-{100 * row.high:.1f})",
            "█" * round(20 * row.value),
            change,
            "" if row.p_holm is None else f"{row.p_holm:.2g}",
            str(row.eligible),
            f"{100 * everything[row.condition, row.direction].value:.1f}",
            f"{row.truncated:.0%}" if row.truncated else "",
        )
    Console().print(table)
