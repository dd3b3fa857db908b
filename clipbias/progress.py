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
STEADY = 3.0
"""Seconds of a kind of work that are measured before a time is told of it."""
HALF_LIFE = 30.0
"""Seconds after which a measured speed counts half."""
CACHED = "cached "
"""Begins the kind of what need not be done."""
_WEIGHTS = {"images": 4}
"""For the bar alone: CLIP's ViT-B/16 multiplies about four times as much for an image as for a text of 100 tokens."""


def spoken(seconds: float) -> str:
    """A duration in words: "40 s", "12 min", "3 h 05 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"


@dataclass
class Speed:
    """Items a second, the last half minute counting most. A short first step, which warms up, is left out."""

    count: float = 0.0
    seconds: float = 0.0
    begun: bool = False

    def add(self, count: int, seconds: float) -> None:
        """So many items took so long."""
        if self.begun or seconds >= STEADY:
            kept = 0.5 ** (seconds / HALF_LIFE)
            self.count, self.seconds = kept * self.count + count, kept * self.seconds + seconds
        self.begun = True

    @property
    def rate(self) -> float | None:
        """None until `STEADY` seconds were measured."""
        return self.count / self.seconds if self.seconds >= STEADY and self.count else None


@dataclass
class Work:
    """What is to be done in several parts, how far it is, and how long the rest takes at the speed so far.

    Attributes:
        planned: per part (a model on a data set), kind ("images", "texts") -> how many at most.
        clock: seconds, for tests.
    """

    planned: list[dict[str, int]]
    clock: Callable[[], float] = time.monotonic
    part: int = 0
    done: dict[str, int] = field(default_factory=dict)
    _speeds: dict[str, Speed] = field(default_factory=dict)
    _last: float = 0.0
    _base: dict[str, tuple[int, int]] = field(default_factory=dict)
    _kind: str = ""

    def __post_init__(self) -> None:
        self.planned = [dict(part) for part in self.planned]

    def begin(self, part: int) -> None:
        """The next part starts."""
        self.part, self.done, self._base, self._last, self._kind = part, {}, {}, self.clock(), ""

    def step(self, kind: str, done: int, total: int) -> None:
        """``done`` of ``total`` of a kind, as `Session` reports; several passes of a kind add up.

        Of kind "cached images" and the like so many need not be done. What is not planned is no part of the work.
        """
        now = self.clock()
        plan = self.planned[self.part] if self.part < len(self.planned) else {}
        what = kind.removeprefix(CACHED)
        if what in plan and what != kind:
            plan[what] = max(self.done.get(what, 0), plan[what] - done)
        elif kind in plan:
            before, last = self._base.get(kind, (0, 0))
            if done <= last:  # another pass begins, which may be as long as the one before
                before, last = before + last, 0
            self._base[kind] = (before, done)
            self.done[kind] = before + done
            plan[kind] = max(plan[kind], before + total)
            self._speeds.setdefault(kind, Speed()).add(done - last, now - self._last)
            self._kind = kind
        self._last = now

    def _rest(self, parts: list[dict[str, int]]) -> dict[str, int]:
        """How many of each kind are left, in this part and in ``parts``."""
        mine = self.planned[self.part] if self.part < len(self.planned) else {}
        rest = {kind: max(0, count - self.done.get(kind, 0)) for kind, count in mine.items()}
        for later in parts:
            for kind, count in later.items():
                rest[kind] = rest.get(kind, 0) + count
        return {kind: count for kind, count in rest.items() if count}

    def left(self) -> float | None:
        """Seconds that the rest takes at the speed so far; None until the speed of every kind that is left is known."""
        return self._seconds(self._rest(self.planned[self.part + 1 :]))

    def _seconds(self, rest: dict[str, int]) -> float | None:
        rates = {kind: speed.rate for kind, speed in self._speeds.items()}
        each = [count / rate if (rate := rates.get(kind)) else None for kind, count in rest.items()]
        known = [seconds for seconds in each if seconds is not None]
        return sum(known) if any(rates.values()) and len(known) == len(each) else None

    def rest(self) -> str:
        """What is left in words: "12 min left", "40 s of images left" where no more is known, or nothing."""
        if (left := self.left()) is not None:
            return f"{spoken(left)} left"
        mine = {kind: count for kind, count in self._rest([]).items() if kind == self._kind}
        left = self._seconds(mine) if mine else None
        return "" if left is None else f"{spoken(left)} of {self._kind} left"

    def share(self) -> float:
        """How much of the work is done, 0 to 1; it never falls, as an estimate of time would."""
        weigh = {kind: _WEIGHTS.get(kind, 1) for part in self.planned for kind in part}
        every = sum(weigh[kind] * count for part in self.planned for kind, count in part.items())
        rest = sum(weigh[kind] * count for kind, count in self._rest(self.planned[self.part + 1 :]).items())
        return 1 - rest / every if every else 0.0


class Watch:
    """What shows the progress of `Work`: call it as `Session` calls its progress."""

    def __init__(self, work: Work, show: Callable[[str, str], None]) -> None:
        """``show``: called with what is done now, and with what is left, in words."""
        self.work, self._show, self._label = work, show, ""

    def begin(self, part: int, label: str) -> None:
        """Part number ``part`` (from 0) starts."""
        self.work.begin(part)
        self._label = f"{label}" if len(self.work.planned) < 2 else f"{part + 1}/{len(self.work.planned)} {label}"
        self._show(self._label, self.work.rest())

    def __call__(self, what: str, done: int, total: int) -> None:
        """``done`` of ``total`` of ``what``."""
        self.work.step(what.partition(",")[0], done, total)
        told = f"{what} {done:,}/{total:,}"
        self._show(f"{self._label}: {told}" if self._label else told, self.work.rest())


class Lines:
    """A line now and then, for logs: the first after ``every`` seconds."""

    def __init__(self, every: float = EVERY, clock: Callable[[], float] = time.monotonic, stream: Any = None) -> None:
        self._every, self._clock, self._stream = every, clock, stream
        self._next = clock() + every

    def __call__(self, text: str, rest: str = "") -> None:
        """Print the text if a line is due."""
        if self._clock() >= self._next:
            self._next = self._clock() + self._every
            print(f"clipbias: {text}{f', about {rest}' if rest else ''}", file=self._stream or sys.stderr, flush=True)


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
        yield Watch(work, (lambda text, rest: None) if quiet else lines)
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
        yield Watch(work, lambda text, rest: bar.update(task, description=text, completed=work.share(), rest=rest))


@contextmanager
def _in_notebook(work: Work) -> Iterator[Watch]:
    """A line that is replaced, twice a second at most; rich's bar needs a package that notebooks may lack."""
    display = import_module("IPython.display").display
    began = due = time.monotonic()
    handle = display({"text/plain": ""}, raw=True, display_id=True)

    def show(text: str, rest: str) -> None:
        nonlocal due
        if time.monotonic() < due:
            return
        due = time.monotonic() + 0.5
        share = work.share()
        line = f"{'█' * round(12 * share):░<12} {share:4.0%}{f'  {rest}' if rest else ''}  {text}"
        handle.update({"text/plain": line}, raw=True)

    yield Watch(work, show)
    handle.update({"text/plain": f"done in {spoken(time.monotonic() - began)}"}, raw=True)
