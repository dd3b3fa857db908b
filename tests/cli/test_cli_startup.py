"""Commands that only list import nothing heavy: each in a process of its own, asked what it imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from clipbias.cli.app import main
try:
    main()
except SystemExit as stop:
    print(stop.code, sorted({"torch", "pandas", "matplotlib", "open_clip", "transformers"} & set(sys.modules)))
"""


def test_missing_weights_are_said_before_anything_large_is_imported(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    environment.pop("CLIPBIAS_WEIGHTS", None)
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, "probe", "padding", "--model", "longclip-b16"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert run.stdout == "2 []\n" and "HF_HUB_OFFLINE is set" in run.stderr, run.stdout + run.stderr


@pytest.mark.parametrize(
    "arguments", ["--help", "models", "data list", "probe --list", "cache info", "results list {empty}"]
)
def test_listing_imports_neither_torch_nor_pandas(tmp_path, arguments):
    command = arguments.format(empty=tmp_path).split()
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, *command],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert run.stdout.splitlines()[-1] == "0 []", run.stdout + run.stderr
