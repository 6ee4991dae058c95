"""This process's places (its threads or greenlets), and who may take them."""

from __future__ import annotations

import threading


class Places:
    """Counts the places that destinations take which have not answered lately.

    They may take a share of them, one at least, so that however many of them hang, the others go
    to those that have answered. Until `open` is called, as in a process that is no worker, there
    is no limit.
    """

    def __init__(self) -> None:
        self.total = 0
        self._most: int | None = None
        self._taken = 0
        self._lock = threading.Lock()

    def open(self, total: int, share: float) -> None:
        """Say how many places there are, and the share that such destinations may take."""
        self.total, self._most = total, max(1, int(total * share))

    def take(self) -> bool:
        """Take one for such a destination; False: there is none."""
        with self._lock:
            if self._most is not None and self._taken >= self._most:
                return False
            self._taken += 1
            return True

    def give_back(self) -> None:
        """Free one that was taken."""
        with self._lock:
            self._taken -= 1
