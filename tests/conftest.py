"""What holds for every test."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    """No test reads or writes the cache of whoever runs it."""
    monkeypatch.setenv("CLIPBIAS_CACHE", str(tmp_path_factory.mktemp("cache")))
