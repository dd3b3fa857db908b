"""`clipbias selftest`: rigged encoders whose reading is known, and what every probe must say of them."""

from __future__ import annotations

import typer

from clipbias.cli.console import say


def register(app: typer.Typer) -> None:
    """Add the subcommand."""

    @app.command()
    def selftest() -> None:
        """Ask every probe of five rigged encoders; exit code 1 where one does not say what is known of them."""
        from clipbias.errors import CheckFailed
        from clipbias.probe.selftest import run_selftest

        checks = run_selftest()
        for check in checks:
            say(f"{'ok  ' if check.passed else 'FAIL'} {check.what}: {check.found}")
        failed = sum(not check.passed for check in checks)
        if failed:
            raise CheckFailed(
                f"{failed} of {len(checks)} checks failed: the numbers of this installation cannot be trusted"
            )
        say(f"{len(checks)} checks passed")
