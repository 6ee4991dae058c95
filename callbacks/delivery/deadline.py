"""When an attempt has to end, and how long each of its steps may take."""

from __future__ import annotations

import time
from typing import NamedTuple


class Deadline:
    """The instant by which an attempt has to end, on this process's monotonic clock."""

    __slots__ = ("_ends_at", "_seconds")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ends_at = time.monotonic() + seconds

    def left(self) -> float:
        """The remaining seconds; raises TimeoutError if there are none."""
        left = self._ends_at - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"the attempt did not end within its {self._seconds:g} s")
        return left

    def at_most(self, seconds: float) -> Deadline:
        """A deadline in `seconds` from now, or this one if it is earlier."""
        return Deadline(min(seconds, self._ends_at - time.monotonic()))


class Limits(NamedTuple):
    """The time limits of one attempt.

    `connect_s` bounds connecting to one address, and the TLS handshake after it; `read_s` each
    wait for the receiver; `deadline` the whole attempt, name lookup included.
    """

    connect_s: float
    read_s: float
    deadline: Deadline
