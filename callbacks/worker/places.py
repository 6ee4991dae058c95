"""This process's places (its threads or greenlets), and who may take them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Places:
    """Counts the places that destinations take which have not answered lately, or which hang.

    They may take a share of them, one at least, so that however many of them hang, the others go
    to those that have answered. Until `open` is called, as in a process that is no worker, there
    is no limit.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.total = 0
        self._monotonic = monotonic
        self._most: int | None = None
        self._taken = 0
        self._overdue_from: dict[object, float] = {}
        self._lock = threading.Lock()

    def open(self, total: int, share: float) -> None:
        """Say how many places there are, and the share that such destinations may take."""
        self.total, self._most = total, max(1, int(total * share))

    def take(self) -> bool:
        """Take one for such a destination; False: there is none."""
        with self._lock:
            if self._most is not None and self._taken + self._overdue() >= self._most:
                return False
            self._taken += 1
            return True

    def give_back(self) -> None:
        """Free one that was taken."""
        with self._lock:
            self._taken -= 1

    @contextmanager
    def watching(self, patience_s: float) -> Iterator[None]:
        """Count a request to a destination that has answered as one more if it takes longer."""
        request = object()
        with self._lock:
            self._overdue_from[request] = self._monotonic() + patience_s
        try:
            yield
        finally:
            with self._lock:
                del self._overdue_from[request]

    def _overdue(self) -> int:
        now = self._monotonic()
        return sum(at <= now for at in self._overdue_from.values())
