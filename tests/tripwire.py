"""A process-wide tripwire: what Python's audit hooks tell of code, programs and sockets that clipbias never starts."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import clipbias

_PATHS = sysconfig.get_paths()
_TRUSTED = tuple(
    str(Path(place).resolve())
    for place in (
        _PATHS["stdlib"], _PATHS["platstdlib"], _PATHS["purelib"], _PATHS["platlib"],
        Path(clipbias.__file__).parents[1], sys.base_prefix,
    )
)  # fmt: skip
_open: list[list[str]] = []


def _file_is_trusted(name: str) -> bool:
    # Names in angle brackets are code that libraries make themselves (dataclasses, named tuples).
    return name.startswith("<") or str(Path(name).resolve()).startswith(_TRUSTED)


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if not _open:
        return
    found = ""
    if event == "exec":
        name = str(getattr(arguments[0], "co_filename", "?"))
        found = "" if _file_is_trusted(name) else f"exec {name}"
    elif event == "compile" and len(arguments) > 1 and isinstance(arguments[1], str):
        found = "" if _file_is_trusted(arguments[1]) else f"compile {arguments[1]}"
    elif event == "import" and len(arguments) > 1 and isinstance(arguments[1], str):
        found = "" if _file_is_trusted(arguments[1]) else f"import {arguments[1]}"
    elif event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork"):
        found = f"{event} {arguments[:1]}"
    elif event in ("socket.connect", "socket.getaddrinfo", "socket.bind"):
        found = f"{event} {arguments[:2]}"
    if found:
        for caught in _open:
            caught.append(found)


sys.addaudithook(_hook)  # for the life of the process; silent while nobody asks


@contextmanager
def tripwire() -> Iterator[list[str]]:
    """What ran while the block ran and should not have: code from elsewhere, programs, sockets."""
    caught: list[str] = []
    _open.append(caught)
    try:
        yield caught
    finally:
        _open.remove(caught)
