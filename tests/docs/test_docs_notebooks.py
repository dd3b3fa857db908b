"""The notebooks of docs/notebooks run, and show what they show in the repository."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "notebooks"
KEY = {
    "tour": ("text/html", "nano-longclip", 2),
    "my-model": ("text/plain", "True", 1),
    "by-hand": ("text/plain", "delta_low", 1),
    "finetune": ("text/html", "apart_value", 1),
}
"""Notebook -> kind of output, what one of them holds, and how many at least."""


def shown(book: nbformat.NotebookNode, kind: str) -> list[str]:
    return [out["data"][kind] for cell in book.cells for out in cell.get("outputs", ()) if kind in out.get("data", ())]


def words_of(text: str) -> set[str]:
    return set(re.findall(r"[A-Za-z_]{2,}", text)) - {"NaN", "True", "False"}


def test_every_notebook_is_linked_from_the_index():
    index = (ROOT / "docs" / "index.md").read_text("utf-8")
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(KEY)
    assert all(f"notebooks/{name}\n" in index for name in KEY)


@pytest.mark.parametrize("name", KEY)
def test_a_notebook_runs_and_shows_what_is_stored(name, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    stored = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    book = nbformat.from_dict(stored)
    NotebookClient(book, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [out for cell in book.cells for out in cell.get("outputs", ())]
    assert {out.output_type for out in outputs} <= {"execute_result", "display_data"}, outputs
    kind, words, least = KEY[name]
    assert sum(words in text for text in shown(book, kind)) >= least
    before, after = shown(stored, "text/plain"), shown(book, "text/plain")
    assert [len(cell.get("outputs", ())) for cell in stored.cells] == [len(c.get("outputs", ())) for c in book.cells]
    for old, new in zip(before, after, strict=True):
        # Numbers are the models' that ship; tables are laid out by their width.
        assert words_of(old) == words_of(new), "run: jupyter execute --inplace docs/notebooks/*.ipynb"
