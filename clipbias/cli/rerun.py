"""`clipbias rerun`: run finished runs again from their records, and compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clipbias.cli.console import AsCsv, AsJson, say
from clipbias.names import for_terminal


def register(app: typer.Typer) -> None:
    """Add the subcommand."""

    @app.command()
    def rerun(
        folders: Annotated[list[Path], typer.Argument(help="Run folders, or folders of run folders.")],
        weights: Annotated[Path | None, typer.Option(help="The model's checkpoint, where it lies here.")] = None,
        root: Annotated[Path | None, typer.Option(help="The data set's folder, where it lies here.")] = None,
        device: Annotated[str | None, typer.Option(help="Another device than the recorded one.")] = None,
        tolerance: Annotated[float, typer.Option(help="How far numbers may be apart.", min=0)] = 0.0025,
        out: Annotated[Path | None, typer.Option(help="Keep the new runs here; default: compare only.")] = None,
        cache: Annotated[bool, typer.Option(help="Use cached embeddings; default: compute all anew.")] = False,
        trust_remote_code: Annotated[
            bool, typer.Option("--trust-remote-code", help="Run the Python code of an hf: or st: repository.")
        ] = False,
        as_json: AsJson = False,
        as_csv: AsCsv = False,
    ) -> None:
        """Run finished runs again and compare (exit code 1)."""
        from clipbias.cli.console import printed, progress_bar
        from clipbias.errors import CheckFailed, UserError
        from clipbias.probe.store import open_store
        from clipbias.rerun.rerun import Sessions, as_record
        from clipbias.rerun.rerun import rerun as run_again
        from clipbias.results.folder import find_runs

        changes = {"weights": weights and str(weights), "root": root and str(root), "device": device}
        found = find_runs(folders)
        if not found:
            raise UserError(f"no finished run in {', '.join(map(str, folders))}")
        results = []
        with progress_bar() as progress:
            sessions = Sessions(open_store() if cache else None, progress, trust_remote_code)
            for folder in found:
                results.append(run_again(folder, sessions, changes, out, tolerance))
                if not (as_json or as_csv):
                    say(f"{folder}: {results[-1].verdict}")
                    for line in results[-1].differences:
                        say(f"  {for_terminal(line)}")
                    for line in results[-1].notes:
                        say(f"  note: {for_terminal(line)}")
        printed([as_record(one) for one in results], as_json, as_csv)
        failed = sum(bool(one.differences) for one in results)
        if failed:
            raise CheckFailed(f"{failed} of {len(results)} runs came out differently")
