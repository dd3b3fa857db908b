"""One registry for everything that can be named: models, data sets, transforms, probes' parts.

Names are registered in code or found in an entry-point group; a built-in may be given as a lazy
``"module:attribute"`` string, so that listing names imports nothing heavy.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import Generic, TypeVar, cast

from clipbias.errors import UserError

T = TypeVar("T")


def import_object(reference: str) -> object:
    """The object that ``"module:attribute"`` names.

    Raises:
        UserError: the module or the attribute cannot be found.
    """
    module, _, attribute = reference.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"cannot import {reference!r}: {error}") from error


class Registry(Generic[T]):
    """Names to objects, in the order of their registration."""

    def __init__(self, kind: str, group: str) -> None:
        """``kind`` is what messages call an entry; ``group`` the entry-point group to look into."""
        self.kind = kind
        self.group = group
        self._entries: dict[str, T | str] = {}
        self._scanned = False

    def add(self, name: str, entry: T | str) -> None:
        """Register ``entry``, or a lazy ``"module:attribute"``, under ``name``.

        Raises:
            UserError: the name is taken.
        """
        if name in self._entries:
            raise UserError(f"the {self.kind} {name!r} is registered twice; choose another name")
        self._entries[name] = entry

    def _scan(self) -> None:
        if not self._scanned:
            self._scanned = True
            for point in entry_points(group=self.group):
                self.add(point.name, point.value)

    def __iter__(self) -> Iterator[str]:
        self._scan()
        return iter(tuple(self._entries))

    def __contains__(self, name: object) -> bool:
        self._scan()
        return name in self._entries

    def __getitem__(self, name: str) -> T:
        """The entry called ``name``.

        Raises:
            UserError: there is none; the message suggests near names and lists all.
        """
        self._scan()
        if name not in self._entries:
            near = difflib.get_close_matches(name, self._entries, n=3)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise UserError(f"no {self.kind} is called {name!r}{hint} Known: {', '.join(self._entries)}")
        entry = self._entries[name]
        if isinstance(entry, str):
            entry = self._entries[name] = cast(T, import_object(entry))
        return entry
