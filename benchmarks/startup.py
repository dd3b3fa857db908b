"""How long the commands that only list take, in processor time and by the clock, beside `python -c pass` and imports.

    python benchmarks/startup.py [--rounds 7]

Medians of several rounds; all commands take turns in each round, so that a load on the machine falls on all of them.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

BARE = ("-c", "pass")
COMMANDS = {
    "python -c pass": BARE,
    "import clipbias": ("-c", "import clipbias"),
    "import typer": ("-c", "import typer"),
    **{
        f"clipbias {' '.join(words)}": ("-m", "clipbias", *words)
        for words in (
            ("--help",), ("models",), ("data", "list"), ("probe", "--list"), ("cache", "info"), ("results", "list"),
        )
    },
    "import torch": ("-c", "import torch"),
}  # fmt: skip


def took(arguments: tuple[str, ...], folder: str) -> tuple[float, float]:
    """Processor and clock seconds of one run of Python in an empty folder.

    Raises:
        SystemExit: the command failed.
    """
    environment = os.environ | {"CLIPBIAS_CACHE": folder, "COLUMNS": "80"}
    before, began = os.times(), time.perf_counter()
    done = subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True)
    clock, after = time.perf_counter() - began, os.times()
    if done.returncode not in (0, 2):  # 2: there is nothing to list here
        raise SystemExit(f"{' '.join(arguments)}: {done.stderr}")
    return sum(after[2:4]) - sum(before[2:4]), clock


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        took(BARE, folder)
        times = [{name: took(arguments, folder) for name, arguments in COMMANDS.items()} for _ in range(rounds)]
    bare = statistics.median(one["python -c pass"][0] for one in times)
    print("| command | processor, s | times `python -c pass` | clock, s |\n|---|---|---|---|")
    for name in COMMANDS:
        processor, clock = (statistics.median(one[name][k] for one in times) for k in (0, 1))
        print(f"| `{name}` | {processor:.2f} | {processor / bare:.1f} | {clock:.2f} |")


if __name__ == "__main__":
    main()
