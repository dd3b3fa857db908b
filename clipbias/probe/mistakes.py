"""Mistakes in a spec, and the line where each stands."""

from __future__ import annotations


class Mistake(Exception):
    """What is wrong with a key of a spec; ``near`` and ``last`` help `line_of` to find it."""

    def __init__(self, key: str, message: str, near: str = "", last: bool = False) -> None:
        super().__init__(f"{key}: {message}")
        self.key, self.near, self.last = key, near, last


def line_of(text: str, key: str, near: str, last: bool) -> int:
    """The line of ``key``, looked for from the line that holds ``near`` on; or the last one that holds it."""
    lines = text.splitlines()
    if last:
        return max(i + 1 for i, line in enumerate(lines) if key in line)
    start = next((i for i, line in enumerate(lines) if near and near in line), 0)
    return next((i + 1 for i in range(start, len(lines)) if key in lines[i]), start + 1)
