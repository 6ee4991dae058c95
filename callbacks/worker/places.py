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

    Dramatiq may raise in a thread at any bytecode. So a place is entered inside the `try` that
    gives it back, and is given back by one call that needs no lock.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        #: Threads or greenlets of this process, and how many of them such destinations may take;
        #: 0 until that is said.
        self.total = 0
        self.unproven_most = 0
        self._monotonic = monotonic
        self._taken: set[object] = set()
        self._overdue_from: dict[object, float] = {}
        self._lock = threading.Lock()

    def open(self, total: int, share: float) -> None:
        """Say how many places there are, and the share that such destinations may take."""
        self.total, self.unproven_most = total, max(1, int(total * share))

    @property
    def busy(self) -> int:
        """How many requests this process is at."""
        return len(self._taken) + len(self._overdue_from)

    @contextmanager
    def taking(self) -> Iterator[bool]:
        """Take a place for an unproven destination; False if none is free."""
        request = object()
        try:
            yield self._take(request)
        finally:
            self._taken.discard(request)

    def _take(self, request: object) -> bool:
        with self._lock:
            most = self.unproven_most
            if most and len(self._taken) + self._overdue() >= most:
                return False
            self._taken.add(request)
            return True

    @contextmanager
    def watching(self, patience_s: float) -> Iterator[None]:
        """Count a request to a destination that has answered as one more if it takes longer."""
        request = object()
        try:
            self._overdue_from[request] = self._monotonic() + patience_s
            yield
        finally:
            self._overdue_from.pop(request, None)

    def _overdue(self) -> int:
        now = self._monotonic()
        return sum(at <= now for at in self._overdue_from.copy().values())
