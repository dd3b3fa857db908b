"""The code keeps to the drawing in docs/design.md: imports run downward, files and functions stay short."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "clipbias"
FILES = sorted(PACKAGE.rglob("*.py"))
LINES, FUNCTION = 300, 60


def layers() -> list[str]:
    """The layers of the drawing, from the top down; "base" stands for the single modules of the package."""
    drawing = (ROOT / "docs" / "design.md").read_text("utf-8")
    block = re.search(r"```text\n(cli .*?)```", drawing, re.DOTALL)
    assert block is not None
    return [line.split()[0] for line in block[1].splitlines()]


def layer_of(parts: tuple[str, ...], known: list[str]) -> str:
    """The layer of a module; modules beside the packages that the list does not name are the base."""
    return parts[0] if parts and parts[0] in known else "base"


def imported(tree: ast.AST) -> list[tuple[int, tuple[str, ...]]]:
    """Line and dotted parts, below the package, of every import of the package; those inside functions too."""
    out = []
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        out += [(node.lineno, tuple(name.split(".")[1:])) for name in names if name.split(".")[0] == "clipbias"]
    return out


def upward(path: Path, source: str, known: list[str]) -> list[str]:
    """The imports of a file that run upward, one line each."""
    mine = layer_of(path.relative_to(PACKAGE).with_suffix("").parts, known)
    place = known.index(mine)
    out = []
    for line, parts in imported(ast.parse(source)):
        other = layer_of(parts, known)
        if known.index(other) < place:
            out.append(f"{path.relative_to(ROOT)}:{line}: {mine} imports {other}")
    return out


def test_every_folder_is_in_the_drawing() -> None:
    known = layers()
    assert {p.name for p in PACKAGE.iterdir() if (p / "__init__.py").is_file()} <= set(known)
    assert len(known) == len(set(known))


def test_imports_run_downward() -> None:
    known = layers()
    # The package itself and its entry point only forward to what is above.
    found = [
        line
        for path in FILES
        if path not in (PACKAGE / "__init__.py", PACKAGE / "__main__.py")
        for line in upward(path, path.read_text("utf-8"), known)
    ]
    assert not found, "\n".join(found)


def test_an_upward_import_is_found() -> None:
    known = layers()
    source = "def f():\n    from clipbias.report.build import build_report\n"
    assert upward(PACKAGE / "data" / "dataset.py", source, known) == ["clipbias/data/dataset.py:2: data imports report"]
    assert not upward(PACKAGE / "cli" / "report.py", source, known)


@pytest.mark.parametrize("name", [path.relative_to(PACKAGE).as_posix() for path in FILES])
def test_files_and_functions_stay_short(name: str) -> None:
    path = PACKAGE / name
    source = path.read_text("utf-8")
    long = [f"{len(source.splitlines())} lines"] * (len(source.splitlines()) > LINES) + [
        f"{node.name}: {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > FUNCTION
    ]
    assert not long, "; ".join(long)


@pytest.mark.parametrize("file", sorted((PACKAGE / "models" / "families").glob("[a-z]*.py")), ids=lambda f: f.stem)
def test_a_family_is_one_small_file(file):
    assert len(file.read_text("utf-8").splitlines()) <= 60
