"""Signals that ask a training to stop."""

from __future__ import annotations

import signal
import threading
from typing import NoReturn


class StopRequest:
    """Notes SIGINT, SIGTERM and SIGHUP inside a block, so that the step in progress is finished and saved first.

    Attributes:
        came: the signal's number; 0 as long as none came.
    """

    def __init__(self) -> None:
        self.came = 0
        self._previous: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGINT", "SIGTERM", "SIGHUP"):
                number = getattr(signal, name, None)
                # nohup asks for SIGHUP to be ignored, and that is kept.
                if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._note)
        return self

    def _note(self, number: int, frame: object) -> None:
        self.came = number

    def end(self) -> NoReturn:
        """End the process as the signal does elsewhere.

        Raises:
            KeyboardInterrupt: SIGINT came, or a signal to another process of the training.
            SystemExit: another signal n came; the code is 128 + n.
        """
        if self.came in (0, signal.SIGINT):
            raise KeyboardInterrupt
        raise SystemExit(128 + self.came)

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
