"""What holds for every test."""

from __future__ import annotations

import os

import hypothesis
import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # Processes side by side share the cores: more threads than cores slow all of them, and those they start.
    # torch reads this when it is imported, which no conftest does.
    share = max(1, (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))
    os.environ.setdefault("OMP_NUM_THREADS", str(share))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    """No test reads or writes the cache of whoever runs it."""
    monkeypatch.setenv("CLIPBIAS_CACHE", str(tmp_path_factory.mktemp("cache")))


hypothesis.settings.register_profile("long", max_examples=10_000, deadline=None)
hypothesis.settings.register_profile("short", deadline=None)
hypothesis.settings.load_profile("short")
