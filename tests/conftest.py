"""What holds for every test."""

from __future__ import annotations

import hypothesis
import pytest


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    """No test reads or writes the cache of whoever runs it."""
    monkeypatch.setenv("CLIPBIAS_CACHE", str(tmp_path_factory.mktemp("cache")))


hypothesis.settings.register_profile("long", max_examples=10_000, deadline=None)
hypothesis.settings.register_profile("short", deadline=None)
hypothesis.settings.load_profile("short")
