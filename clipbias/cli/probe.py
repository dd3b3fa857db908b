"""`clipbias probe`: perturb captions and measure what changes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from clipbias.results.record import Row

HEADLINE = "recall@1"


def register(app: typer.Typer) -> None:
    """Add the subcommand."""

    @app.command()
    def probe(
        context: typer.Context,
        names: Annotated[list[str] | None, typer.Argument(help="Probes, suites, TOML files, or all.")] = None,
        model: Annotated[list[str] | None, typer.Option("--model", "-m", help="A model; repeatable.")] = None,
        data: Annotated[
            str | None, typer.Option(help="A data set; default: DOCCI where configured, else scenes.")
        ] = None,
        root: Annotated[Path | None, typer.Option(help="The data set's folder.")] = None,
        split: Annotated[str | None, typer.Option(help="Which part of the data set.")] = None,
        option: Annotated[list[str] | None, typer.Option(help="An option of the data's reader, name=value.")] = None,
        skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out images that cannot be read.")] = False,
        weights: Annotated[Path | None, typer.Option(help="The model's checkpoint file.")] = None,
        model_option: Annotated[
            list[str] | None, typer.Option(help="An option of the model's family, name=value, e.g. context=77.")
        ] = None,
        revision: Annotated[str | None, typer.Option(help="Commit or tag of the model's hub repository.")] = None,
        trust_remote_code: Annotated[
            bool, typer.Option("--trust-remote-code", help="Run the Python code of an hf: repository.")
        ] = False,
        device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
        precision: Annotated[str, typer.Option(help="fp32, bf16 or fp16.")] = "fp32",
        compile_: Annotated[
            bool, typer.Option("--compile", help="Compile the towers (torch.compile); pays on GPUs and many images.")
        ] = False,
        seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
        out: Annotated[Path, typer.Option(help="Results folder.")] = Path("results"),
        cache: Annotated[bool, typer.Option(help="Keep features, and use those kept (clipbias cache).")] = True,
        as_json: Annotated[bool, typer.Option("--json", help="Rows as JSON.")] = False,
        list_: Annotated[bool, typer.Option("--list", help="List the probes.")] = False,
    ) -> None:
        """Run probes on models and write their results."""
        from dataclasses import asdict, replace

        from clipbias.cli.console import only_by_hand, pairs, print_json, progress_bar
        from clipbias.cli.data import DATA_OPTIONS
        from clipbias.data.loading import DATASETS, default_dataset_name, load_dataset
        from clipbias.errors import NotApplicable, UserError
        from clipbias.models.loading import load_model
        from clipbias.probe.distributed import local_device, process_group, serve, shared
        from clipbias.probe.run import run_probe
        from clipbias.probe.session import Session
        from clipbias.probe.spec import find_probes, read_probe, reference, shipped_probes
        from clipbias.probe.store import open_store
        from clipbias.results.folder import read_rows
        from clipbias.results.settings import Settings

        if list_:
            for path in shipped_probes().values():
                listed = read_probe(path)
                print(f"{listed.name:20} {listed.title}")
            return
        if trust_remote_code:
            only_by_hand(context, "trust_remote_code")
        if not names or not model:
            raise UserError("name a probe and a model: clipbias probe padding --model nano-longclip")
        if weights is not None and len(model) > 1:
            raise UserError("--weights belongs to one model; run the models one by one, or give paths as --model")
        probes = [(reference(name, p), p) for name in names for p in find_probes(name)]
        place = local_device(device)
        settings = pairs(
            model_option, "--model-option", ("name", "weights", "device", "precision", "revision", "trust_remote_code")
        )
        encoders = [load_model(m, weights, place, precision, revision, trust_remote_code, **settings) for m in model]
        if compile_:
            for encoder in encoders:
                encoder.compile()
        chosen = default_dataset_name() if data is None else data
        dataset = load_dataset(
            chosen, root=root, split=split, skip_bad=skip_bad, **pairs(option, "--option", DATA_OPTIONS)
        )
        common = Settings(
            probe="",
            model="",
            data=chosen,
            weights=str(weights or ""),
            revision=revision or "",
            model_options=settings,
            root=str(root or ""),
            split=dataset.split if chosen in DATASETS else split or "",
            options=pairs(option, "--option", DATA_OPTIONS),
            skip_bad=skip_bad,
            precision=precision,
            compile=compile_,
            seed=seed,
        )
        with process_group() as number:
            if number:
                for encoder in encoders:
                    serve(encoder, dataset)
                return
            if not as_json:
                print(f"data: {dataset.protocol}" + ("" if data else "  (no --data given)"))
            printed = []
            for as_given, encoder in zip(model, encoders, strict=True):
                folders = []
                with progress_bar() as progress, shared(encoder) as working:
                    session = Session(working, dataset, seed, progress, open_store() if cache else None)
                    for name, p in probes:
                        asked = replace(common, probe=name, model=as_given, device=str(working.device))
                        try:
                            folders.append(run_probe(session, p, out, settings=asked))
                        except UserError as error:
                            left_out = isinstance(error, NotApplicable) and len(probes) > 1
                            if "all" not in names and not left_out:
                                raise
                            print(f"skipped {p.name}: {error}", file=sys.stderr)
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
    """One probe's headline rows as a table: R@1 on eligible captions, with what changed.

    Columns that would say the same on every line (all captions eligible, none cut) are left out.
    """
    from rich.console import Console
    from rich.table import Table

    if not any(row.direction for row in rows):
        _print_means(model, rows)
        return
    headline = [row for row in rows if row.metric == HEADLINE and row.scope == "eligible"]
    everything = {(row.condition, row.direction): row for row in rows if row.metric == HEADLINE and row.scope == "all"}
    some_left_out = any(everything[row.condition, row.direction].n != row.n for row in headline)
    some_cut = any(row.truncated for row in headline)
    n = "" if some_left_out or not headline else f", n {headline[0].n}"
    table = Table(title=f"{rows[0].probe}: {model}{n}", title_justify="left", box=None, padding=(0, 1), pad_edge=False)
    for column in ("condition", "dir"):
        table.add_column(column, no_wrap=True)
    columns = ["R@1 % (95%)", "change, points (95%)", "p (Holm)"]
    columns += ["n", "R@1 all"] * some_left_out + ["cut", "lost"] * some_cut
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for row in headline:
        cells = [row.condition, row.direction.upper(), _share(row.value, row.low, row.high)]
        cells += [_change(row), "" if row.p_holm is None else f"{row.p_holm:.2g}"]
        if some_left_out:
            cells += [str(row.n), f"{100 * everything[row.condition, row.direction].value:.1f}"]
        if some_cut:
            cells += [f"{row.truncated:.0%}", f"{row.tokens_lost:.1f}"] if row.truncated else ["", ""]
        table.add_row(*cells)
    console = Console()
    # In a file or a pipe there is no edge to keep to.
    Console(width=None if console.is_terminal else 120).print(table)
    if console.is_terminal and len(headline) > 2:
        _print_chart(headline)
    if some_cut:
        print("cut: captions longer than the model's context; lost: tokens cut per caption, on average")


def _print_chart(headline: list[Row]) -> None:
    """R@1 of each condition as a bar, a block a direction."""
    width = max(len(row.condition) for row in headline)
    top = max(row.value for row in headline) or 1.0
    for direction in dict.fromkeys(row.direction for row in headline):
        print(f"{direction.upper()} R@1")
        for row in headline:
            if row.direction == direction:
                print(f"  {row.condition:{width}} {bar(row.value / top, 40)} {100 * row.value:.1f}")


def bar(share: float, width: int) -> str:
    """A bar of ``share`` (0 to 1) of ``width`` characters, to an eighth of one."""
    eighths = round(share * width * 8)
    return "\u2588" * (eighths // 8) + ("" if eighths % 8 == 0 else chr(0x2590 - eighths % 8))


def _print_means(model: str, rows: list[Row]) -> None:
    """Rows without a direction: curves as one line each, single numbers as one line each."""
    from itertools import groupby

    print(f"{rows[0].probe}: {model}, n {rows[0].n}")
    for (condition, metric), part in groupby(rows, key=lambda row: (row.condition, row.metric)):
        line = list(part)
        if "-head-" in condition:
            continue  # in the results, too many for a terminal
        if len(line) == 1:
            print(f"  {condition:10} {metric:26} {line[0].value:8.3f} ({line[0].low:.3f} to {line[0].high:.3f})")
        else:
            shown = " ".join(f"{row.value:.3f}" for row in line[:12])
            print(f"  {condition:10} {metric:26} {shown}{' ...' if len(line) > 12 else ''}")


def _share(value: float, low: float | None, high: float | None) -> str:
    """A share in percent, with its interval where there is one."""
    interval = "" if low is None or high is None else f" ({100 * low:.1f}-{100 * high:.1f})"
    return f"{100 * value:.1f}{interval}"


def _change(row: Row) -> str:
    if row.delta is None or row.delta_low is None or row.delta_high is None:
        return ""
    return f"{100 * row.delta:+.1f} ({100 * row.delta_low:+.1f} to {100 * row.delta_high:+.1f})"
