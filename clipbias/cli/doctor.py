"""`clipbias doctor`: what this installation has: versions, devices, folders, disk, hub, weights, data."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from clipbias.cli.console import AsCsv, AsJson, say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Fact = dict[str, object]


def register(app: typer.Typer) -> None:
    """Add the subcommand."""

    @app.command()
    def doctor(
        online: bool = typer.Option(True, help="Ask whether the Hugging Face hub answers."),
        as_json: AsJson = False,
        as_csv: AsCsv = False,
    ) -> None:
        """Show what is here: versions, devices, weights, data.

        Exit code 1 where something would stop a run: a folder that cannot be written, or a missing package.
        """
        from clipbias.cli.console import printed
        from clipbias.errors import CheckFailed

        facts = [fact for part in (_versions, _devices, _folders) for fact in part()]
        facts += [*(_hub() if online else ()), *_weights(), *_data()]
        if not printed(facts, as_json, as_csv):
            for fact in facts:
                mark = "ok" if fact["ok"] else "--" if fact["optional"] else "NO"
                say(f"{mark:3} {fact['part']:9} {fact['name']:22} {fact['found']!s}")
        wrong = [str(fact["name"]) for fact in facts if not fact["ok"] and not fact["optional"]]
        if wrong:
            raise CheckFailed(f"this installation will not run: {', '.join(wrong)}")


def _fact(part: str, name: str, found: object, ok: bool = True, optional: bool = True) -> Fact:
    return {"part": part, "name": name, "found": found, "ok": ok, "optional": optional}


def _versions() -> Iterator[Fact]:
    import platform
    from importlib.metadata import PackageNotFoundError, version

    yield _fact("version", "python", platform.python_version(), optional=False)
    needed = ("clipbias", "torch", "open_clip_torch", "numpy", "pandas", "pillow", "pyarrow", "safetensors")
    for name in (*needed, "transformers", "sentence-transformers", "datasets", "tensorboard", "wandb", "mlflow"):
        try:
            yield _fact("version", name, version(name), optional=name not in needed)
        except PackageNotFoundError:
            yield _fact("version", name, "not installed", ok=False, optional=name not in needed)


def _devices() -> Iterator[Fact]:
    import torch

    yield _fact("device", "cpu", f"{os.cpu_count()} cores, {torch.get_num_threads()} threads")
    for number in range(torch.cuda.device_count()):
        memory = torch.cuda.get_device_properties(number).total_memory / 2**30
        yield _fact("device", f"cuda:{number}", f"{torch.cuda.get_device_name(number)}, {memory:.0f} GiB")
    if not torch.cuda.device_count():
        yield _fact("device", "cuda", "none", ok=False)
    yield _fact(
        "device", "mps", "yes" if torch.backends.mps.is_available() else "none", torch.backends.mps.is_available()
    )


def _folders() -> Iterator[Fact]:
    import shutil

    from clipbias.data.roots import DATA_VARIABLE, cache_folder
    from clipbias.models.weights import WEIGHTS_VARIABLE

    for name, path, needed in (
        ("results (here)", Path.cwd(), True),
        ("cache", cache_folder(), True),
        (DATA_VARIABLE, os.environ.get(DATA_VARIABLE), False),
        (WEIGHTS_VARIABLE, os.environ.get(WEIGHTS_VARIABLE), False),
    ):
        if path is None:
            yield _fact("folder", name, "not set", ok=False)
            continue
        folder = Path(path)
        existing = next((p for p in (folder, *folder.absolute().parents) if p.exists()), folder)
        if not needed and not folder.is_dir():
            yield _fact("folder", name, f"{folder}: no such folder", ok=False)
            continue
        writable = not needed or os.access(existing, os.W_OK)
        free = shutil.disk_usage(existing).free / 1e9
        words = f"{folder}, {free:,.0f} GB free" + ("" if writable else ", cannot be written")
        yield _fact("folder", name, words, writable, optional=not needed)


def _hub() -> Iterator[Fact]:
    from clipbias.models.hub import out_of_reach

    reason = out_of_reach()
    found = f"{reason}; only files that are here can be used" if reason else "answers"
    yield _fact("hub", "Hugging Face", found, ok=not reason)


def _weights() -> Iterator[Fact]:
    from clipbias.models.catalogue import MODELS

    for name in MODELS:
        yield _tried("weights", name, lambda name=name: _here(name))  # type: ignore[misc]


def _here(name: str) -> str:
    from clipbias.models.catalogue import MODELS
    from clipbias.models.entry import ModelEntry
    from clipbias.models.weights import local_weights

    entry = MODELS[name]
    if not isinstance(entry, ModelEntry):
        return "registered by a package"
    if entry.family == "openclip":
        return ""
    found = local_weights(entry, check=False)
    return str(found) if found else ""


def _data() -> Iterator[Fact]:
    from clipbias.data.loading import DATASETS, dataset_spec
    from clipbias.data.roots import configured_root

    for name in DATASETS:
        needs_root = dataset_spec(name).needs_root
        yield _tried(
            "data",
            name,
            lambda name=name, far=needs_root: str(configured_root(name) or "") if far else "built in",  # type: ignore[misc]
        )


def _tried(part: str, name: str, look: Callable[[], str]) -> Fact:
    """A fact of something that others may have registered: what fails is said, not raised."""
    try:
        found = look()
    except Exception as error:
        return _fact(part, name, " ".join(str(error).split())[:120], ok=False)
    return _fact(part, name, found or "not here", ok=bool(found))
