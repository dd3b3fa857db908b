"""Progress of long work: one bar in a terminal or a notebook, a line a minute in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

Progress = Callable[[str, int, int], None]
EVERY = 60.0
"""Seconds between lines in a log."""


def spoken(seconds: float) -> str:
    """A duration in words: "40 s", "12 min", "3 h 05 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"


@dataclass
class Work:
    """What is to be encoded in several parts, how far it is, and how long the rest takes at the speed so far.

    Attributes:
        planned: per part (a model on a data set), kind ("images", "texts") -> how many at most.
        clock: seconds, for tests.
    """

    planned: list[dict[str, int]]
    clock: Callable[[], float] = time.monotonic
    part: int = 0
    done: dict[str, int] = field(default_factory=dict)
    _seconds: dict[str, float] = field(default_factory=dict)
    _counted: dict[str, int] = field(default_factory=dict)
    _last: float = 0.0
    _base: dict[str, tuple[int, int]] = field(default_factory=dict)

    def begin(self, part: int) -> None:
        """The next part starts."""
        self.part, self.done, self._base, self._last = part, {}, {}, self.clock()

    def step(self, kind: str, done: int, total: int) -> None:
        """``done`` of ``total`` of a kind, as `Session` reports; several passes of a kind add up."""
        now = self.clock()
        before, last = self._base.get(kind, (0, 0))
        if done <= last:  # another pass begins, which may be as long as the one before
            before, last = before + last, 0
        self._base[kind] = (before, done)
        self.done[kind] = before + done
        if kind in ("images", "texts"):
            self._counted[kind] = self._counted.get(kind, 0) + done - last
            self._seconds[kind] = self._seconds.get(kind, 0.0) + now - self._last
        self._last = now

    def left(self) -> float | None:
        """Seconds that the rest takes at the speed so far; None before a first batch."""
        speeds = {k: self._counted[k] / s for k, s in self._seconds.items() if s > 0 and self._counted.get(k)}
        if not speeds:
            return None
        slowest = min(speeds.values())
        mine = self.planned[self.part] if self.part < len(self.planned) else {}
        rest = {kind: max(0, count - self.done.get(kind, 0)) for kind, count in mine.items()}
        for later in self.planned[self.part + 1 :]:
            for kind, count in later.items():
                rest[kind] = rest.get(kind, 0) + count
        return sum(count / speeds.get(kind, slowest) for kind, count in rest.items())


class Watch:
    """What shows the progress of `Work`: call it as `Session` calls its progress."""

    def __init__(self, work: Work, show: Callable[[str, float | None], None], clock: Callable[[], float]) -> None:
        self.work, self._show, self._clock, self._began, self._label = work, show, clock, clock(), ""

    def begin(self, part: int, label: str) -> None:
        """Part number ``part`` (from 0) starts."""
        self.work.begin(part)
        self._label = f"{label}" if len(self.work.planned) < 2 else f"{part + 1}/{len(self.work.planned)} {label}"
        self._show(self._label, self.work.left())

    def __call__(self, what: str, done: int, total: int) -> None:
        """``done`` of ``total`` of ``what``."""
        self.work.step(what.partition(",")[0], done, total)
        self._show(f"{self._label}: {what} {done:,}/{total:,}", self.work.left())

    def share(self) -> float:
        """How much of the time is over, 0 to 1."""
        left, spent = self.work.left(), self._clock() - self._began
        return 0.0 if left is None else spent / max(spent + left, 1e-9)


class Lines:
    """A line now and then, for logs: the first after ``every`` seconds."""

    def __init__(self, every: float = EVERY, clock: Callable[[], float] = time.monotonic, stream: Any = None) -> None:
        self._every, self._clock, self._stream = every, clock, stream
        self._next = clock() + every

    def __call__(self, text: str, left: float | None = None) -> None:
        """Print the text if a line is due."""
        if self._clock() >= self._next:
            self._next = self._clock() + self._every
            rest = "" if left is None else f", about {spoken(left)} left"
            print(f"clipbias: {text}{rest}", file=self._stream or sys.stderr, flush=True)


@contextmanager
def watched(planned: list[dict[str, int]], quiet: bool = False) -> Iterator[Watch]:
    """One bar for all parts together: drawn in terminals and notebooks, a line a minute elsewhere, nothing if quiet."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    work = Work(planned)
    if console.is_jupyter and not quiet:
        with _in_notebook(work) as watch:
            yield watch
        return
    if quiet or not console.is_terminal:
        lines = Lines()
        yield Watch(work, (lambda text, left: None) if quiet else lines, time.monotonic)
        return
    columns = (
        BarColumn(12),
        TextColumn("{task.percentage:3.0f}%"),
        TextColumn("{task.fields[rest]}"),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=1.0, rest="")
        watch = Watch(work, lambda text, left: None, time.monotonic)

        def show(text: str, left: float | None) -> None:
            rest = "" if left is None else f"{spoken(left)} left"
            bar.update(task, description=text, completed=watch.share(), rest=rest)

        watch._show = show
        yield watch


@contextmanager
def _in_notebook(work: Work) -> Iterator[Watch]:
    """A line that is replaced, twice a second at most; rich's bar needs a package that notebooks may lack."""
    display = import_module("IPython.display").display
    began = due = time.monotonic()
    handle = display({"text/plain": ""}, raw=True, display_id=True)

    def show(text: str, left: float | None) -> None:
        nonlocal due
        if time.monotonic() < due:
            return
        due = time.monotonic() + 0.5
        share = watch.share()
        rest = "" if left is None else f"  {spoken(left)} left"
        line = f"{'█' * round(12 * share):░<12} {share:4.0%}{rest}  {text}"
        handle.update({"text/plain": line}, raw=True)

    watch = Watch(work, show, time.monotonic)
    yield watch
    handle.update({"text/plain": f"done in {spoken(time.monotonic() - began)}"}, raw=True)
