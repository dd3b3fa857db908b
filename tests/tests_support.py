"""Rows and runs for the tests."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from clipbias.report.style import Look
from clipbias.results.folder import run_folder, write_run
from clipbias.results.record import QUERY_COLUMNS, SCHEMA, Row, Run


def make_row(**changes: object) -> Row:
    """A row with harmless values."""
    values: dict[str, object] = {
        "probe": "drop-first", "condition": "full", "order": 0, "x": None, "baseline": None, "direction": "t2i",
        "metric": "recall@1", "scope": "eligible", "value": 0.5, "low": 0.4, "high": 0.6, "delta": None,
        "delta_low": None, "delta_high": None, "p": None, "p_holm": None, "n": 10, "clusters": 10, "ties": 0,
        "method": "made up", "base": None, "eligible": 10,
        "affected": 10, "truncated": 0.0, "tokens_lost": 0.0,
    }  # fmt: skip
    return Row(**(values | changes))  # type: ignore[arg-type]


def make_run(**changes: object) -> Run:
    """A run with harmless values."""
    values: dict[str, object] = {
        "schema": SCHEMA, "probe": "drop-first", "probe_spec": "", "title": "t", "model": "m", "model_family": "f",
        "model_fingerprint": "0", "model_options": {}, "data": "d", "split": "test", "data_fingerprint": "1",
        "protocol": "10 images", "captions": 10, "images": 10, "skipped": 0, "context_length": 77, "truncation": "",
        "interval": "", "precision": "fp32", "device": "cpu", "seed": 0, "seconds": 1.0,
        "created": "2026-01-01T00:00:00+00:00", "command": "clipbias probe", "versions": {},
        "git_commit": "", "git_dirty": False,
    }  # fmt: skip
    return Run(**(values | changes))  # type: ignore[arg-type]


SVG = Look(formats=("svg",))
"""For reports whose PNG and PDF files nobody looks at: those take most of a report's time."""
HOSTILE = '<script>alert(1)</script>|=cmd("x")'


def write_models(root: Path, model: str, data: str = "d", **changes: object) -> None:
    """Made-up runs of the paper's probes for one model."""
    import numpy as np
    import pandas as pd

    queries = pd.DataFrame([["full", "t2i", 0, 0, 0, 0, 1, 0.5, 0.1, True, False]], columns=list(QUERY_COLUMNS))
    seed = np.random.default_rng(len(model))
    for probe, conditions in (
        ("drop-first", ("full", "drop-first")),
        ("swap-1-4", ("full", "swap-1-4")),
        ("swap", ("first-2", "swap-2", "first-only")),
        ("padding", ("pad-0", "pad-1", "pad-2")),
    ):
        rows = []
        for order, condition in enumerate(conditions):
            for direction in ("t2i", "i2t"):
                for metric in ("recall@1", "recall@5", "recall@10"):
                    for scope in ("eligible", "all"):
                        value = float(seed.uniform(0.2, 0.8))
                        change = {} if order == 0 else {"delta": -0.1, "delta_low": -0.15, "delta_high": -0.05}
                        rows.append(
                            make_row(
                                probe=probe, condition=condition, order=order, x=float(order), direction=direction,
                                metric=metric, scope=scope, value=value, low=value - 0.05, high=value + 0.05, **change,
                            )
                        )  # fmt: skip
        run = make_run(model=model, probe=probe, data=data, **changes)
        write_run(run_folder(root, f"{model}-{len(model)}", data, probe), run, rows, queries)


THOROUGH = bool(os.environ.get("CLIPBIAS_TEST_THOROUGH"))
"""Whether checks that cost much run in full: more examples and seeds, more kills (CONTRIBUTING.md)."""


def examples(few: int, many: int) -> settings:
    """For properties whose every example costs a lot: how many are tried, and how many where thoroughness is asked."""
    return settings(
        max_examples=many if THOROUGH else few,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )


def run_here(*arguments: object, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """The command line in this process: what `python -m clipbias` prints and exits with, without a start's seconds.

    Args:
        arguments: of the command.
        cwd: the folder it runs in.
        variables: of the environment; CLIPBIAS_CACHE stays the test's own.
    """
    from clipbias.cli.app import main

    words = list(map(str, arguments))
    out, errors = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    logger = logging.getLogger("clipbias")
    logged = logger.handlers[:], logger.level, logger.propagate
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    code = 0
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith("CLIPBIAS_") and name != "CLIPBIAS_CACHE":
                patch.delenv(name)
        for name, value in variables.items():
            patch.setenv(name, value)
        patch.chdir(cwd)
        patch.setattr(sys, "argv", ["clipbias", *words])
        logger.handlers[:] = []
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
                main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        finally:
            logger.handlers[:], logger.level, logger.propagate = logged
            for number, handler in handlers.items():
                signal.signal(number, handler)
    texts = (stream.buffer.getvalue().decode() for stream in (out, errors))
    return subprocess.CompletedProcess(words, code, *texts)
