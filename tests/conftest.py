"""What holds for every test."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import sysconfig
import threading
from collections.abc import Iterator
from pathlib import Path

import garbage  # noqa: F401
import hypothesis
import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # Processes side by side share the cores: more threads than cores slow all of them, and those they start.
    # torch reads this when it is imported, which no conftest does.
    share = max(1, (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))
    os.environ.setdefault("OMP_NUM_THREADS", str(share))


WATCHED = 2.0
"""Seconds of processor time of each test in which coverage is measured, where it is."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Iterator[None]:
    """Coverage watches the start of each test: what runs for longer repeats itself, and until Python 3.12 code that is
    watched takes about twice its time. Fewer lines can be seen so, never more."""
    library = sys.modules.get("coverage")
    watching = library.Coverage.current() if library else None
    if watching is None or threading.current_thread() is not threading.main_thread():
        return (yield)
    stopped: list[bool] = []

    def stop(*_: object) -> None:
        watching.stop()
        stopped.append(True)

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, WATCHED)
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
        if stopped:
            watching.start()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    """No test reads or writes the cache of whoever runs it."""
    monkeypatch.setenv("CLIPBIAS_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(autouse=True, scope="session")
def _files_without_waiting_for_the_disk():
    """Thousands of small files are written; what a loss of power would leave of them is nothing that a test can see."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(autouse=True, scope="session")
def _commands_built_once():
    """Typer makes its commands anew at every call; in a process that makes hundreds they are made once."""
    from functools import cache

    import typer.main
    import typer.testing

    with pytest.MonkeyPatch.context() as patch:
        once = cache(typer.main.get_command)
        patch.setattr(typer.main, "get_command", once)
        patch.setattr(typer.testing, "_get_command", once)
        yield


@pytest.fixture
def few_scenes(monkeypatch):
    """Built-in worlds of 48 training scenes, 20 to look at during a training and 60 to probe: the commands' work on
    them is the same, only less of it. For commands in this process."""
    from dataclasses import replace

    from clipbias.data import scenes
    from clipbias.data.build import without_images
    from clipbias.data.loading import load_dataset

    splits = {"train": 48, "validation": 1000, "test": 60, "short": 60}
    for name in ("FIRST", "SECOND"):
        world = getattr(scenes, name)
        fewer = {split: count for split, count in splits.items() if split in world.splits}
        monkeypatch.setattr(scenes, name, replace(world, splits=fewer))

    def held_out(data):
        return without_images(load_dataset(data, split="validation"), range(20, 1000), "other")

    monkeypatch.setattr("clipbias.finetune.ask.scenes_held_out", held_out)


@pytest.fixture
def compiler(monkeypatch):
    """``torch.compile`` to the graphs that it would compile, which PyTorch runs then: to make C++ of them takes a
    minute and is PyTorch's work. Thorough tests do it, where a compiler is."""
    import torch
    from tests_support import THOROUGH

    if not THOROUGH:
        real = torch.compile
        monkeypatch.setattr(torch, "compile", lambda *given, **more: real(*given, **{**more, "backend": "aot_eager"}))
    elif shutil.which("g++") is None or not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        pytest.skip("torch.compile needs a C++ compiler and Python's headers")
    torch._dynamo.reset()


hypothesis.settings.register_profile("long", max_examples=10_000, deadline=None)
hypothesis.settings.register_profile("short", deadline=None)
hypothesis.settings.load_profile("short")
