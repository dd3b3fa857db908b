"""`clipbias selftest`: rigged encoders whose reading is known, and what every probe must say of them."""

from __future__ import annotations

import typer

from clipbias.cli.console import AsCsv, AsJson, say


def register(app: typer.Typer) -> None:
    """Add the subcommand."""

    @app.command()
    def selftest(as_json: AsJson = False, as_csv: AsCsv = False) -> None:
        """Probe rigged encoders whose bias is known (exit code 1).

        Every probe must say what is known of each of the five.
        """
        from clipbias.cli.console import printed
        from clipbias.errors import CheckFailed
        from clipbias.probe.selftest import run_selftest

        checks = run_selftest()
        records = [{"check": one.what, "found": one.found, "passed": bool(one.passed)} for one in checks]
        silent = printed(records, as_json, as_csv)
        for check in () if silent else checks:
            say(f"{'ok  ' if check.passed else 'FAIL'} {check.what}: {check.found}")
        failed = sum(not check.passed for check in checks)
        if failed:
            raise CheckFailed(
                f"{failed} of {len(checks)} checks failed: the numbers of this installation cannot be trusted"
            )
        if not silent:
            say(f"{len(checks)} checks passed")
