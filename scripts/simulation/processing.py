"""PROCESSING of one shard, and the places that its requests take.

Both are sorted sets that are counted from one end: here that is a running count, and a heap of what
will count later.
"""

from __future__ import annotations

import heapq
from typing import Final

from scripts.simulation.records import Callback, Phase

_WAITS, _COUNTS = 1, 2
#: A claimed callback that was due longer ago has lost its process or its message; one is about to
#: begin if it is due within this (`startable_of` in lua/parts/places.lua).
_LONG_AGO_MS: Final = 10_000
_SOON_MS: Final = 100


class Processing:
    """What is claimed, waits for its retry, or is being sent."""

    def __init__(self) -> None:
        self.waiting: dict[Callback, None] = {}
        self.sending = 0
        self._leases: list[tuple[int, int, Callback]] = []
        self._ended: list[Callback] = []

    def __len__(self) -> int:
        return len(self.waiting) + self.sending + len(self._ended)

    def begin(self, callback: Callback, lease_ends: int) -> None:
        """It is being sent, or goes on being sent, until its lease ends."""
        self.waiting.pop(callback, None)
        self.sending += callback.phase is not Phase.SENDING
        callback.lease = lease_ends
        heapq.heappush(self._leases, (lease_ends, callback.number, callback))

    def leave(self, callback: Callback) -> None:
        """It waits or is sent no more."""
        if callback.phase is not Phase.SENDING:
            self.waiting.pop(callback, None)
        elif callback in self._ended:
            self._ended.remove(callback)
        else:
            self.sending -= 1

    def past_lease(self, now: int, most: int) -> list[Callback]:
        """Those whose lease has ended, the oldest first. `most`: to be returned."""
        leases = self._leases
        while leases and leases[0][0] <= now:
            ends, _, callback = heapq.heappop(leases)
            if callback.phase is Phase.SENDING and callback.lease == ends:
                self._ended.append(callback)
                self.sending -= 1
        return self._ended[:most]

    def overdue(self, now: int, late_ms: int, lease_ms: int) -> list[Callback]:
        """Those past their slot and not begun, by slot."""
        first, last = now - lease_ms, now - late_ms
        found = [each for each in self.waiting if first <= each.due <= last]
        return sorted(found, key=lambda each: (each.due, each.number))

    def about_to_begin(self, now: int) -> int:
        """How many will begin in a moment."""
        first, last = now - _LONG_AGO_MS, now + _SOON_MS
        return sum(first <= each.due <= last for each in self.waiting)


class Taken:
    """The places that unproven destinations, and requests that take too long, have taken."""

    def __init__(self) -> None:
        self._count = 0
        self._later: list[tuple[int, int, Callback]] = []

    def put(self, callback: Callback, since: int, now: int) -> None:
        """It takes a place from then on."""
        self.leave(callback)
        callback.placed_at = since
        if since <= now:
            callback.placed = _COUNTS
            self._count += 1
            return
        callback.placed = _WAITS
        heapq.heappush(self._later, (since, callback.number, callback))

    def leave(self, callback: Callback) -> None:
        """It takes none."""
        self._count -= callback.placed == _COUNTS
        callback.placed = 0

    def count(self, now: int) -> int:
        """How many are taken now."""
        later = self._later
        while later and later[0][0] <= now:
            since, _, callback = heapq.heappop(later)
            if callback.placed == _WAITS and callback.placed_at == since:
                callback.placed = _COUNTS
                self._count += 1
        return self._count
