"""`clipbias probe`: perturb captions and measure what changes."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from clipbias.cli import options
from clipbias.cli.console import AsCsv, AsJson, say

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from clipbias.probe.plan import Cost
    from clipbias.probe.sweep import Outcome, Sweep


@dataclass(frozen=True)
class Output:
    """What is printed, and how."""

    as_json: bool
    as_csv: bool

    @property
    def machine(self) -> bool:
        """Whether a program reads it."""
        return self.as_json or self.as_csv


def register(app: typer.Typer) -> None:
    """Add the subcommand."""

    @app.command()
    def probe(
        context: typer.Context,
        names: options.Probes = None,
        model: options.Models = None,
        models: options.ModelFile = None,
        data: options.Data = None,
        data_list: options.DataFile = None,
        root: options.Root = None,
        split: options.Split = None,
        option: options.ReaderOptions = None,
        skip_bad: options.SkipBad = False,
        limit: options.Limit = 0,
        weights: options.Weights = None,
        model_option: options.ModelOptions = None,
        revision: options.Revision = None,
        trust_remote_code: options.TrustRemoteCode = False,
        device: options.Device = "auto",
        precision: options.Precision = "fp32",
        batch_size: options.BatchSize = None,
        compile_: options.Compile = False,
        seed: options.Seed = 0,
        out: options.Out = Path("results"),
        cache: options.Cache = True,
        dry_run: options.DryRun = False,
        as_json: AsJson = False,
        as_csv: AsCsv = False,
        list_: options.List = False,
    ) -> None:
        """Run probes on models; --list lists them."""
        output = Output(as_json, as_csv)
        if list_:
            from clipbias.cli.tables import print_probes

            print_probes(as_json, as_csv)
            return
        go_on = models is not None or data_list is not None
        probed, chosen = _required(names, _with_lines(model, models), weights, revision, go_on)
        from clipbias.cli.console import only_by_hand
        from clipbias.probe.store import open_store
        from clipbias.probe.sweep import Sweep

        if trust_remote_code:
            only_by_hand(context, "trust_remote_code")
        of_model = _model_settings(weights, model_option, revision, device, precision, compile_, seed)
        of_data = {"root": root, "split": split, "options": option, "skip_bad": skip_bad, "limit": limit}
        datasets = _with_lines([] if data is None else [data], data_list)
        probes, settings, loaded = _asked(probed, chosen, datasets, of_model, of_data)
        asked, store = [(one, None) for one in settings], open_store() if cache else None
        sweep = Sweep(probes, asked, loaded, out, store, batch_size, trust_remote_code, "all" in probed, go_on)
        _do(sweep, output, dry_run, guessed=data is None and data_list is None)


def _do(sweep: Sweep, output: Output, dry_run: bool, guessed: bool) -> None:
    """Say what will be run, and run it unless only that was asked."""
    from clipbias.cli.console import quiet
    from clipbias.probe.plan import cost

    costs = [] if quiet() else [cost(dataset, [p for _, p in sweep.probes]) for _, dataset in sweep.datasets]
    if not output.machine:
        _announce(sweep, costs, guessed)
    elif dry_run:
        _plan(sweep, output)
    if not dry_run:
        _run(sweep, costs, output)


def _with_lines(given: list[str] | None, path: Path | None) -> list[str]:
    """What was given, and the lines of a file; empty ones and comments (#) are passed over.

    Raises:
        UserError: the file cannot be read, or names nothing.
    """
    if path is None:
        return given or []
    from clipbias.errors import UserError
    from clipbias.gate import read_text

    lines = [line.partition("#")[0].strip() for line in read_text(path, "spec").splitlines()]
    found = [line for line in lines if line]
    if not found:
        raise UserError(f"{path}: names nothing; write one name per line")
    return [*(given or []), *found]


def _required(
    names: list[str] | None, models: list[str], weights: Path | None, revision: str | None, go_on: bool
) -> tuple[list[str], list[str]]:
    """The names of probes and models; what cannot be run is refused before anything large is imported.

    Raises:
        UserError: nothing was asked for, or a model that is not known or, where the sweep stops for it, not to be had.
    """
    from clipbias.errors import UserError
    from clipbias.models.suggest import require_model, wanted_models

    if not names or not models:
        raise UserError("name a probe and a model: clipbias probe padding --model nano-longclip")
    models = wanted_models(models)
    for name in models:
        require_model(name, str(weights or ""), revision or "", available=not go_on)
    return names, models


def _model_settings(
    weights: Path | None,
    options: list[str] | None,
    revision: str | None,
    device: str,
    precision: str,
    compile_: bool,
    seed: int,
) -> dict[str, Any]:
    from clipbias.cli.console import pairs
    from clipbias.probe.distributed import local_device
    from clipbias.results.settings import RESERVED

    return {
        "weights": str(weights or ""),
        "revision": revision or "",
        "model_options": pairs(options, "--model-option", RESERVED["model_options"]),
        "device": local_device(device),
        "precision": precision,
        "compile": compile_,
        "seed": seed,
    }


def _asked(
    names: list[str],
    models: list[str],
    data: list[str],
    of_model: dict[str, Any],
    of_data: dict[str, Any],
) -> tuple[list[Any], list[Any], list[Any]]:
    """The probes, the models' settings, and the data sets with theirs; names are checked before anything is loaded.

    Raises:
        UserError: nothing was asked for, or something that is not known.
    """
    from clipbias.cli.console import pairs
    from clipbias.data.loading import default_dataset_name
    from clipbias.errors import UserError
    from clipbias.probe.asked import data_settings, wanted_probes
    from clipbias.results.settings import RESERVED, Settings

    if of_model["weights"] and len(models) > 1:
        raise UserError("--weights belongs to one model; run the models one by one, or give paths as --model")
    if of_data["root"] and len(data) > 1:
        raise UserError("--root belongs to one data set; run them one by one, or set CLIPBIAS_DATA")
    probes = wanted_probes(names)
    settings = [Settings(probe="", data="", model=name, **of_model) for name in models]
    options = pairs(of_data["options"], "--option", RESERVED["options"])
    rest = {"root": str(of_data["root"] or ""), "split": of_data["split"] or "", "options": options}
    rest |= {"skip_bad": of_data["skip_bad"], "limit": of_data["limit"]}
    return probes, settings, [data_settings(name, **rest) for name in data or [default_dataset_name()]]


def _announce(sweep: Sweep, costs: Sequence[Cost], guessed: bool) -> None:
    """What will be run, and what it costs; ``costs``: of each data set, none where nobody is told."""
    from clipbias.cli.console import note
    from clipbias.data.loading import not_comparable

    for (_, dataset), cost in zip(sweep.datasets, costs, strict=False):
        note(f"data: {dataset.protocol}" + (" (no --data given)" if guessed else ""), wrap=True)
        if others := not_comparable(dataset.name):
            note(f"not comparable with numbers on {', '.join(others)}", wrap=True)
        note(f"cost: {cost}", wrap=True)
    names = ", ".join(one.model for one, _ in sweep.models)
    note(f"run: {len(sweep.probes)} probe(s) on {names}", wrap=True)


def _plan(sweep: Sweep, output: Output) -> None:
    """Print what would be run as JSON or CSV."""
    from clipbias.cli.console import printed
    from clipbias.probe.plan import cost

    records: list[dict[str, object]] = []
    for on, dataset in sweep.datasets:
        for name, probe in sweep.probes:
            counts = cost(dataset, [probe]).counts()
            records += [{"model": m.model, "data": on.data, "probe": name, **counts} for m, _ in sweep.models]
    printed(records, output.as_json, output.as_csv)


def _run(sweep: Sweep, costs: Sequence[Cost], output: Output) -> None:
    """Run, telling each outcome when it is there; then where results are and what comes next.

    Raises:
        CheckFailed: something failed and the sweep went on without it.
    """
    from clipbias.cli.console import helps, note, printed, quiet
    from clipbias.errors import CheckFailed
    from clipbias.probe.sweep import run_sweep
    from clipbias.progress import watched

    records: list[dict[str, object]] = []
    failed = []
    with watched([one.counts() for one in costs] * len(sweep.models), quiet=quiet()) as watch:
        for one in run_sweep(sweep, watch, watch.begin):
            if one.problem:
                failed += [one] if one.failed else []
                verb = f"failed {_name(one)}" if one.failed else f"skipped {one.probe}"
                say(f"{verb}: {one.problem}", err=True)
            elif output.machine:
                records += _records(one)
            else:
                _tell(one)
    if not helps():
        printed(records, output.as_json, output.as_csv)
    if not output.machine:
        note(f"results: {sweep.out}")
        where = "" if sweep.out == Path("results") else f" --results {shlex.quote(str(sweep.out))}"
        note(f"next: clipbias report{where}   (figures, leaderboard and page)")
    if failed:
        raise CheckFailed(
            f"{len(failed)} of the runs asked for failed: {', '.join(dict.fromkeys(_name(f) for f in failed))}"
        )


def _name(one: Outcome) -> str:
    return " ".join(part for part in (one.model, one.data, one.probe) if part)


def _records(one: Outcome) -> Iterator[dict[str, object]]:
    from dataclasses import asdict

    from clipbias.results.folder import read_rows

    assert one.folder is not None
    for row in read_rows(one.folder):
        yield {"model": one.model, "data": one.data, **asdict(row)}


def _tell(one: Outcome) -> None:
    from clipbias.cli.console import note
    from clipbias.cli.tables import print_rows
    from clipbias.results.folder import read_rows

    assert one.folder is not None
    if one.reused:
        note(f"{one.probe}: {one.model}: reused, same fingerprint ({one.folder})")
    print_rows(one.model, read_rows(one.folder))
