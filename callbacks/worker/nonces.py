"""Unique words: a random one for the process, and a number behind it.

Drawing each from the system costs a system call, which gives the interpreter away.
"""

from __future__ import annotations

import itertools
import secrets

from callbacks.forks import renew_after_fork


class Nonces:
    """Makes them, for any number of threads; a forked child draws its own word."""

    def __init__(self) -> None:
        renew_after_fork(self)

    def reset_after_fork(self) -> None:
        """Draw another word."""
        self._drawn = secrets.token_hex(8)
        self._numbers = itertools.count()

    def next(self) -> str:
        """Return one that was never returned before, by no process."""
        return f"{self._drawn}.{next(self._numbers)}"
