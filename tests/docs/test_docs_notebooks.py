"""The notebooks of docs/notebooks run, and show what they show in the repository."""

from __future__ import annotations

import atexit
import re
import signal
from pathlib import Path

import nbformat
import processes
import pytest
from jupyter_client.connect import write_connection_file
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from tests_support import THOROUGH

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


class Running(AsyncKernelManager):
    """Of a kernel that is there already, and is somebody else's to end."""

    has_kernel = True

    async def _async_is_alive(self) -> bool:
        return self.process.is_alive()

    is_alive = _async_is_alive


def execute(book: nbformat.NotebookNode, folder: Path) -> None:
    """Run a notebook in a kernel that is forked: one that starts from nothing imports for seconds, and is the same."""
    connection = folder / "kernel.json"
    write_connection_file(str(connection), ip="127.0.0.1")
    started = processes.start(folder, processes.kernel, connection, folder)
    manager = Running(owns_kernel=False)
    manager.load_connection_file(str(connection))
    manager.process = started.process
    client = NotebookClient(book, km=manager, timeout=300)
    try:
        client.execute()
    finally:
        atexit.unregister(client._cleanup_kernel)
        started.send_signal(signal.SIGKILL)
        started.finish()
        if client.kc is not None:
            client.kc.stop_channels()


@pytest.mark.parametrize("name", KEY)
def test_a_notebook_runs_and_shows_what_is_stored(name, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    stored = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    book = nbformat.from_dict(stored)
    if THOROUGH:
        NotebookClient(book, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    else:
        execute(book, tmp_path)
    outputs = [out for cell in book.cells for out in cell.get("outputs", ())]
    assert {out.output_type for out in outputs} <= {"execute_result", "display_data"}, outputs
    kind, words, least = KEY[name]
    assert sum(words in text for text in shown(book, kind)) >= least
    before, after = shown(stored, "text/plain"), shown(book, "text/plain")
    assert [len(cell.get("outputs", ())) for cell in stored.cells] == [len(c.get("outputs", ())) for c in book.cells]
    for old, new in zip(before, after, strict=True):
        # Numbers are the models' that ship; tables are laid out by their width.
        assert words_of(old) == words_of(new), "run: jupyter execute --inplace docs/notebooks/*.ipynb"
