"""`clipbias results`: list, show, check and remove finished runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clipbias.cli.console import AsCsv, AsJson, say
from clipbias.names import for_terminal
from clipbias.shipped import WORLD

if TYPE_CHECKING:
    from clipbias.rerun.check import Checked

_Folders = Annotated[list[Path] | None, typer.Argument(help="Run folders, or folders of them; default: results.")]


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(help="Finished runs: list, show, check, remove.", no_args_is_help=True)
    app.add_typer(group, name="results")
    group.command("list")(list_)
    group.command("show")(show)
    group.command("check")(check)
    group.command("build")(build)
    group.command("rm")(rm)


def list_(folders: _Folders = None, as_json: AsJson = False, as_csv: AsCsv = False) -> None:
    """List finished runs."""
    from clipbias.cli.console import printed
    from clipbias.results.folder import load_runs

    runs = load_runs(folders or [Path("results")])
    records: list[dict[str, object]] = [
        {
            "folder": str(one.folder),
            "model": one.run.model,
            "fingerprint": one.run.fingerprint,
            "data": one.run.data,
            "split": one.run.split,
            "probe": one.run.probe,
            "created": one.run.created,
        }
        for one in runs
    ]
    if printed(records, as_json, as_csv):
        return
    for one in runs:
        run = one.run
        created = for_terminal(run.created[:16])
        say(f"{run.model:24} {run.data:16} {run.probe:16} {created}  {one.folder}")


def show(
    folder: Annotated[Path, typer.Argument(help="A run folder.")], as_json: AsJson = False, as_csv: AsCsv = False
) -> None:
    """Show a run: what it was, how to repeat it, its headline rows."""
    from dataclasses import asdict

    from clipbias.cli.console import printed
    from clipbias.cli.tables import print_rows
    from clipbias.results.folder import read_rows, read_run

    run, rows = read_run(folder), read_rows(folder)
    records = [asdict(row) for row in rows]
    if printed(records, as_json, as_csv, whole={"run": asdict(run), "rows": records}):
        return
    for name, value in (
        ("model", f"{run.model} ({run.model_family}), fingerprint {run.fingerprint}"),
        ("data", f"{run.data}, {run.protocol}, fingerprint {run.data_fingerprint}"),
        ("computed", f"{run.device}, {run.precision}, context {run.context_length}, seed {run.seed}"),
        ("when", f"{run.created}, {run.seconds} s, clipbias {run.versions.get('clipbias', '?')}"),
        ("again", run.command),
    ):
        say(f"{name:9} {for_terminal(value)}")
    if rows:
        print_rows(run.model, rows)


def check(folders: _Folders = None, as_json: AsJson = False, as_csv: AsCsv = False) -> None:
    """Check runs, also those of others (exit code 1 on a fault)."""
    from dataclasses import asdict

    from clipbias.cli.console import printed
    from clipbias.errors import CheckFailed, UserError
    from clipbias.rerun.check import check_folder
    from clipbias.results.folder import find_runs

    found = find_runs(folders or [Path("results")])
    if not found:
        raise UserError("no finished run there; a run folder holds run.json")
    checked = []
    for folder in found:
        checked.append(check_folder(folder))
        if not (as_json or as_csv):
            _print_check(checked[-1])
    printed([{**asdict(one), "folder": str(one.folder)} for one in checked], as_json, as_csv)
    failed = sum(bool(one.faults) for one in checked)
    if failed:
        raise CheckFailed(f"{failed} of {len(checked)} run folders have faults")


def build(
    folders: Annotated[list[Path], typer.Argument(help="Folders of runs.")],
    out: Annotated[Path, typer.Option(help="Where the tables are written.")] = Path("leaderboards"),
    name: Annotated[str, typer.Option(help="What they are called.")] = WORLD,
) -> None:
    """Check runs, and make the leaderboard's tables of them.

    Nothing is written where one has a fault.
    """
    from clipbias.errors import CheckFailed
    from clipbias.report.boards import write_boards
    from clipbias.rerun.check import check_folder
    from clipbias.results.folder import load_runs

    runs = load_runs(folders)
    faults = 0
    for one in runs:
        checked = check_folder(one.folder)
        if checked.faults:
            _print_check(checked)
            faults += 1
    if faults:
        raise CheckFailed(f"{faults} of {len(runs)} run folders have faults; no leaderboard was made")
    for path in write_boards(runs, out, name):
        say(path)


def rm(
    folders: Annotated[list[Path], typer.Argument(help="Run folders.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove run folders: only the files that clipbias wrote."""
    from clipbias.errors import UserError
    from clipbias.results.folder import find_runs, remove_run

    found = find_runs(folders)
    if not found:
        raise UserError("no finished run there; a run folder holds run.json")
    for folder in found:
        say(folder)
    if not yes and not typer.confirm(f"remove {len(found)} runs?"):
        return
    for folder in found:
        remove_run(folder)


def _print_check(one: Checked) -> None:
    """One folder's faults, notes and distances."""

    say(f"{one.folder}: {f'{len(one.faults)} faults' if one.faults else 'no fault found'}")
    for line in one.faults:
        say(f"  fault: {for_terminal(line)}")
    for line in one.notes:
        say(f"  not checked: {for_terminal(line)}")
    for d in one.distances:
        measured = f"{d.direction.upper()} R@1 {d.measured:.1f} ({d.low:.1f} to {d.high:.1f})"
        verdict = f"{d.measured - d.published:+.1f}, {'inside' if d.inside else 'outside'} the interval"
        say(f"  {measured}; published {d.published:.1f} ({verdict}): {d.protocol}; {d.source}")
