"""What a forked child has to make anew: locks and calls of threads that it does not have."""

from __future__ import annotations

import os
import weakref
from typing import Final, Protocol


class Renewed(Protocol):
    """Makes its locks, and whatever else belongs to threads or to one process, anew."""

    def reset_after_fork(self) -> None:
        """Be as new: also called once as it is made."""


_all: Final[weakref.WeakSet[Renewed]] = weakref.WeakSet()


def renew_after_fork(one: Renewed) -> None:
    """Reset it now, and again in each forked child for as long as it exists."""
    one.reset_after_fork()
    _all.add(one)


def _reset_all() -> None:
    for one in list(_all):
        one.reset_after_fork()


os.register_at_fork(after_in_child=_reset_all)
