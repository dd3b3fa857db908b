"""The API page has every public name with an example, and the examples run."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

import clipbias
from clipbias.data.loading import DATASETS
from clipbias.models.catalogue import MODELS

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text("utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def without_example(names):
    used = set(re.findall(r"\bclipbias\.(\w+)\b", "\n".join(EXAMPLES)))
    return [name for name in names if name not in used]


def test_every_public_name_has_an_entry_and_an_example():
    assert without_example(clipbias.__all__) == []
    assert without_example([*clipbias.__all__, "new_name"]) == ["new_name"]
    entries = re.findall(r"^\.\. auto(?:function|class):: clipbias\.(?:api\.ask\.)?(\w+)$", PAGE, re.MULTILINE)
    assert set(clipbias.__all__) <= set(entries)


@pytest.fixture
def registries(monkeypatch):
    """What examples register is registered for this test only."""
    for registry in (MODELS, DATASETS):
        monkeypatch.setattr(registry, "_entries", {name: registry[name] for name in registry})


def test_the_examples_run(tmp_path, monkeypatch, registries):
    import matplotlib.pyplot as plt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plt, "switch_backend", plt.switch_backend)
    plt.switch_backend("agg")
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        exec(compile("\n".join(EXAMPLES), "docs/api.md", "exec"), {"__name__": "examples"})
    plt.close("all")
    assert told.getvalue().splitlines()[-1] == "248"
    assert (tmp_path / "figures" / "index.html").stat().st_size > 10_000
