"""Signals that ask a training to stop."""

from __future__ import annotations

import signal
import threading


class StopRequest:
    """Notes SIGTERM and SIGINT inside a block, so that the step in progress is finished and saved first."""

    def __init__(self) -> None:
        self.came = False
        self._previous: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def _note(self, number: int, frame: object) -> None:
        self.came = True

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
