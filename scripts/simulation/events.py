"""The clock and what happens when: whole milliseconds, in the order in which it was planned.

All that happens in the same millisecond is one list: that takes 0.26 µs an event, where one heap
of all events took 1.05 and simpy 2.75 (a million events, 20,000 at a time).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any


class Loop:
    """A virtual clock, in ms, and what is planned."""

    def __init__(self) -> None:
        self.now = 0
        self._planned: dict[int, list[tuple[Callable[..., object], tuple[Any, ...]]]] = {}
        self._times: list[int] = []

    def at(self, when_ms: int, do: Callable[..., object], *arguments: Any) -> None:
        """Plan a call; for a time that has passed, for now, after what is planned for now."""
        when = max(when_ms, self.now)
        planned = self._planned.get(when)
        if planned is None:
            self._planned[when] = [(do, arguments)]
            heapq.heappush(self._times, when)
        else:
            planned.append((do, arguments))

    def after(self, wait_ms: int, do: Callable[..., object], *arguments: Any) -> None:
        """Plan a call so many ms from now."""
        self.at(self.now + wait_ms, do, *arguments)

    def monotonic(self) -> float:
        """The time in seconds, for parts of the package that read a clock."""
        return self.now / 1_000

    def run(self, until_ms: int) -> None:
        """Do all that is planned up to a time."""
        while self._times and self._times[0] <= until_ms:
            self.now = self._times[0]
            for do, arguments in self._planned[self.now]:  # grows meanwhile
                do(*arguments)
            del self._planned[heapq.heappop(self._times)]
        self.now = until_ms
