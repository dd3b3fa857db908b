"""The one exception type that means "the user can fix this"."""

from __future__ import annotations

LONGEST = 2000


class UserError(Exception):
    """Bad input or wrong use: one clear line saying what, where and what to do.

    The command line prints the message without a traceback and exits with code 2. A line of more than `LONGEST`
    characters, as a damaged file that is quoted gives, is cut.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(
            "\n".join(line if len(line) <= LONGEST else f"{line[:LONGEST]}…" for line in str(message).split("\n"))
        )


class NotApplicable(UserError):
    """A part of a probe that this model or data cannot answer; the other parts still can."""


class CheckFailed(Exception):
    """A check ran to its end and the answer is "no"; the command line exits with code 1."""
