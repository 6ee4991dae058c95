"""When an attempt has to be over."""

from __future__ import annotations

import time


class Deadline:
    """The instant by which an attempt has ended, on the monotonic clock of this process."""

    __slots__ = ("_ends_at", "_seconds")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ends_at = time.monotonic() + seconds

    def left(self) -> float:
        """The seconds that are left; raises TimeoutError where none are."""
        left = self._ends_at - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"the attempt did not end within its {self._seconds:g} s")
        return left

    def at_most(self, seconds: float) -> Deadline:
        """So many seconds from now, or this deadline where it is earlier."""
        return Deadline(min(seconds, self._ends_at - time.monotonic()))
