"""The one exception type that means "the user can fix this"."""

from __future__ import annotations


class UserError(Exception):
    """Bad input or wrong use: one clear line saying what, where and what to do.

    The command line prints the message without a traceback and exits with code 2.
    """


class NotApplicable(UserError):
    """A part of a probe that this model or data cannot answer; the other parts still can."""


class CheckFailed(Exception):
    """A check ran to its end and the answer is "no"; the command line exits with code 1."""
