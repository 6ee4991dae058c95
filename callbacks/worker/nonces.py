"""Unique words: a random one for the process, and a number behind it.

Drawing each from the system costs a system call, which gives the interpreter away.
"""

from __future__ import annotations

import itertools
import os
import secrets


class Nonces:
    """Makes them, for any number of threads; a forked child draws its own word."""

    def __init__(self) -> None:
        self.reset_after_fork()
        os.register_at_fork(after_in_child=self.reset_after_fork)

    def reset_after_fork(self) -> None:
        """Draw another word."""
        self._drawn = secrets.token_hex(8)
        self._numbers = itertools.count()

    def next(self) -> str:
        """Return one that was never returned before, by no process."""
        return f"{self._drawn}.{next(self._numbers)}"
