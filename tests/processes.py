"""Real processes that are there at once: forked from one that has imported everything.

A process of its own costs seconds of imports; a test that kills one, or gives it a full disk, is not about those.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import runpy
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parent
HEAVY = (
    "garbage",
    "torch", "open_clip", "pandas", "pyarrow.parquet", "scipy.stats", "matplotlib.pyplot", "seaborn", "vl_convert",
    "clipbias.cli.app", "clipbias.api", "clipbias.finetune.ask", "clipbias.models.loading", "clipbias.report.build",
    "clipbias.probe.run", "small_training",
)  # fmt: skip


@dataclass
class Started:
    """A process, and where it prints."""

    process: Any
    out: Path
    errors: Path

    def send_signal(self, number: int) -> None:
        with suppress(ProcessLookupError):  # it is done
            os.kill(self.process.pid, number)

    def wait_for(self, text: str, seconds: float = 120.0) -> None:
        """Wait until a printed line starts with this text."""
        until = time.monotonic() + seconds
        while not any(line.startswith(text) for line in self.out.read_text().splitlines()):
            assert self.process.is_alive() and time.monotonic() < until, self.errors.read_text()
            time.sleep(0.002)

    def finish(self, seconds: float = 180.0) -> tuple[int, str, str]:
        """Exit code (negative: the signal that ended it), stdout and stderr."""
        self.process.join(seconds)
        code = self.process.exitcode
        assert code is not None, f"still running after {seconds} s"
        return code, self.out.read_text(), self.errors.read_text()


@cache
def context() -> ForkServerContext:
    """The server that processes are forked from; it measures no coverage, which writes files of its own."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(HEAVY))
    with pytest.MonkeyPatch.context() as patch:
        for name in [n for n in os.environ if n.startswith("COVERAGE")]:
            patch.delenv(name)
        patch.setenv("PYTHONPATH", os.pathsep.join(map(str, (TESTS.parent, TESTS))))
        context.Process(target=os.getpid).start()
    return context


def start(folder: Path, target: Callable[..., object], *arguments: object, **options: Any) -> Started:
    """Call a function of a module in tests/ in a process of its own.

    Args:
        folder: where files with what it prints go.
        target: the function, and its arguments.
        options: of `_enter`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    number = len(list(folder.glob("*.printed")))
    out, errors = (folder / f"{number}-{name}.printed" for name in ("out", "errors"))
    for path in (out, errors):
        path.touch()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE")}
    whole = {"environment": environment, **options}
    process = context().Process(target=_enter, args=(target, arguments, out, errors), kwargs=whole)
    process.start()
    return Started(process, out, errors)


def launch(folder: Path, count: int, target: Callable[..., object], *arguments: object) -> tuple[int, str, str]:
    """Call a function in several processes that find each other, as ``torchrun`` starts them; where one fails all end.

    Args:
        folder: where files with what they print go.
        count: of processes.
        target: the function, and its arguments.

    Returns:
        The first exit code that is not 0, and stdout and stderr of all.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {**os.environ, "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    every = [
        start(
            folder / str(rank), target, *arguments, environment={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        )
        for rank in range(count)
    ]
    until = time.monotonic() + 300
    while any(one.process.exitcode is None for one in every) and time.monotonic() < until:
        if any(one.process.exitcode for one in every):
            for one in every:
                one.send_signal(signal.SIGTERM)
        time.sleep(0.02)
    ends = [one.finish() for one in every]
    first = next((code for code, _, _ in ends if code not in (0, -signal.SIGTERM)), 0)
    return first, "".join(end[1] for end in ends), "".join(end[2] for end in ends)


def _enter(
    target: Callable[..., object],
    arguments: tuple[object, ...],
    out: Path,
    errors: Path,
    environment: Mapping[str, str],
    largest_file: int = 0,
    first: Path | None = None,
) -> None:
    """What the process does.

    Args:
        target, arguments: is called with them.
        out, errors: files that stdout and stderr become.
        environment: all variables.
        largest_file: bytes that a file may take; 0 for any number.
        first: a program that runs before, as a ``sitecustomize.py`` does.
    """
    os.environ.clear()
    os.environ.update(environment)
    for stream, path in ((sys.stdout, out), (sys.stderr, errors)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), stream.fileno())
    # A shell's background job hands on that interrupts are ignored, nohup that hangups are; tests run in such, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    os.fsync = lambda handle: None  # as in the tests' own process
    if largest_file:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    if first is not None:
        runpy.run_path(str(first))
    target(*arguments)


def command_line(*arguments: object) -> None:
    """`clipbias` with these arguments."""
    from clipbias.cli.app import main

    sys.argv = ["clipbias", *map(str, arguments)]
    main()


def script(path: Path, *arguments: object) -> None:
    """A Python file, as the main program."""
    sys.argv = [str(path), *map(str, arguments)]
    runpy.run_path(str(path), run_name="__main__")


def torchrun(*arguments: object) -> None:
    """`torchrun` with these arguments; the processes that it starts import everything themselves."""
    from torch.distributed.run import main

    main(list(map(str, arguments)))


def kernel(connection: Path, folder: Path) -> None:
    """A Jupyter kernel in a folder, which answers as that connection file says."""
    import matplotlib
    import pandas
    from ipykernel.kernelapp import launch_new_instance

    os.chdir(folder)
    # What these libraries find out when they are imported in a kernel; here they were before.
    matplotlib.rcParams["backend"] = "module://matplotlib_inline.backend_inline"
    pandas.set_option("display.max_columns", 20)
    launch_new_instance(["-f", str(connection), "--HistoryManager.hist_file=:memory:"])
