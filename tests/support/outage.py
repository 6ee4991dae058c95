"""How a fault of Redis ended: what every one of these tests asks of the system afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from threading import Event, Thread
from types import TracebackType
from typing import Protocol

from callbacks.books import Overview
from tests.support.processes import until
from tests.support.target import Target


class Settling(Protocol):
    """The part of a system under test that is asked here."""

    def overview(self) -> Overview: ...
    def settled(self) -> bool: ...
    def audit(self) -> list[str]: ...


def recovered(
    system: Settling, target: Target, ids: Iterable[str], *, since: float, within: float
) -> float:
    """Wait until all is settled; each id arrived and the books balance.

    How long after `since` (of `time.monotonic`) the last request came.
    """
    until(system.settled, within=within)
    missing = set(ids) - set(target.counts())
    assert not missing, f"never arrived: {sorted(missing)[:5]} and {len(missing)} in all"
    assert system.audit() == []
    totals = system.overview().totals
    ended = totals["sent"] + totals["dead"] + totals["cancelled"]
    assert totals["accepted"] == ended, totals
    return max(0.0, max(hit.at for hit in target.hits) - since)


class Again(AbstractContextManager["Again"]):
    """Does something again and again in a thread of its own until the block ends."""

    def __init__(self, act: Callable[[], object], *, every: float) -> None:
        self.times = 0
        self._act, self._every = act, every
        self._stop = Event()
        self._thread = Thread(target=self._run, daemon=True)
        self._failed: Exception | None = None

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._act()
            except Exception as error:
                self._failed = error
                return
            self.times += 1
            self._stop.wait(self._every)

    def __enter__(self) -> Again:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join(10)
        assert self._failed is None, self._failed
