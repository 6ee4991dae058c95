"""The state of one shard, and what several of its verbs ask: the shared files of `lua/parts`."""

from __future__ import annotations

import heapq
import math
from collections import defaultdict, deque
from typing import Any, Final

from callbacks.batcher.store import _constants
from callbacks.model import Outcome
from callbacks.settings import Settings
from scripts.simulation.costs import Costs
from scripts.simulation.events import Loop
from scripts.simulation.feedback import Watched
from scripts.simulation.home import Stored
from scripts.simulation.pace import reserved
from scripts.simulation.processing import Processing, Taken
from scripts.simulation.records import Callback, Destination, Phase
from scripts.simulation.ring import Ring

#: A destination that takes so long to answer counts as one that hangs.
_SLOW_MS: Final = 2_000


class State:
    """The state of one shard. `shard` None: it is the only one."""

    def __init__(
        self,
        settings: Settings,
        loop: Loop,
        costs: Costs,
        shard: int | None,
        *,
        crash_spread_ms: tuple[int, int],
    ) -> None:
        self.settings, self.loop, self.costs, self.shard = settings, loop, costs, shard
        self.counted_as = shard or 0
        self.shards = 1 if shard is None else settings.shards
        self.c = _constants(settings, shard)
        self.pacer: Any = None
        self.is_away = False
        self.ring, self.unproven = Ring(), Ring()
        self.processing, self.taken = Processing(), Taken()
        self.stored, self.watched = Stored(), Watched()
        self.queued = self.ended = 0
        self.totals: defaultdict[str, int] = defaultdict(int)
        self.last_batch = self.next_batch = self.earliest = self.check_at = self.peek_at = 0
        self.threads, self.unproven_most = 0, math.inf
        self._crash_spread_ms = crash_spread_ms
        self._claims = 0
        self._accepted: deque[tuple[int, int]] = deque(maxlen=3)
        self._tick_until = 0

    def call(self, verb: str, items: int = 1) -> int:
        """Count a call; raises if this shard is away. Returns the time."""
        self.costs.call(verb, self, items)
        return self.loop.now

    def new_token(self) -> int:
        """A token that no other claim has."""
        self._claims += 1
        return self._claims

    # Destinations

    def interval_of(self, d: Destination) -> int:
        """Its interval in ms, as set or adapted."""
        if self.c["interval"] and self.c["adaptive"] and d.interval_us is not None:
            return -(-d.interval_us // 1_000)
        return self.c["interval"]

    def in_flight(self, d: Destination) -> int:
        """How many requests to it are in flight, as far as their leases say."""
        now = self.loop.now
        return sum(expires > now for expires in d.inflight.values())

    def is_stalled(self, d: Destination) -> bool:
        """Whether a proven destination is slow, or hangs just now."""
        if d.latency >= _SLOW_MS:
            return True
        oldest = min(d.inflight, key=d.inflight.__getitem__, default=None)
        return oldest is not None and oldest.placed > 0 and oldest.placed_at <= self.loop.now

    def ring_of(self, d: Destination) -> Ring:
        """Where it belongs."""
        return self.ring if d.ok and not d.broken else self.unproven

    def gate(self, d: Destination) -> int:
        return max(d.slot - self.c["window"], d.send - self.c["window"], d.hold)

    def to_lane(self, callback: Callback, due: int) -> None:
        d = callback.destination
        callback.phase, callback.due = Phase.QUEUED, due
        heapq.heappush(d.lane, (due, callback.number, callback))
        self.ring_of(d).join(d, max(self.gate(d), due))

    def to_ring(self, d: Destination) -> float:
        if not d.lane:
            d.ring = None
            return math.inf
        place = max(self.gate(d), d.lane[0][0], self.loop.now)
        self.ring_of(d).put(d, place)
        return place

    def short(self) -> bool:
        return self.taken.count(self.loop.now) > 1.25 * self.unproven_most

    def room(self) -> float:
        return max(0, self.unproven_most - self.taken.count(self.loop.now))

    def overdue_from(self, at: int, latency: int) -> int:
        return at + 1 if latency >= _SLOW_MS else at + max(1_000, 3 * latency)

    def ready(self, limit: int) -> tuple[int, int | None]:
        """How many are ready, up to a limit, and since when the oldest is."""
        ready, oldest, now = 0, None, self.loop.now
        for ring, most in ((self.ring, limit), (self.unproven, min(limit, self.room()))):
            found = ring.take(now, int(most)) if ready < limit else []
            for d in found:
                due = d.lane[0][0]
                if due > now or ready >= limit:
                    continue
                oldest = due if oldest is None else min(oldest, due)
                ready += sum(each[0] <= now for each in d.lane[:limit])
            ring.put_back(found)
        return min(ready, limit), oldest

    def arm_trigger(self, at: float) -> int | None:
        now, ahead = self.loop.now, self.c["look_ahead"]
        at = max(at, reserved(self.earliest, ahead, now))
        if at > now + ahead or now - 200 < self.next_batch <= at:
            return None
        self.next_batch = int(at)
        return max(0, int(at) - now)

    def arm_next(self, earliest: int) -> int | None:
        first = self.ring.first()
        if self.room() > 0:
            first = min(first, self.unproven.first())
        return None if first == math.inf else self.arm_trigger(max(earliest, first))

    def leave(self, callback: Callback) -> None:
        self.processing.leave(callback)
        self.taken.leave(callback)
        callback.destination.inflight.pop(callback, None)

    def end(self, callback: Callback, outcome: Outcome) -> None:
        if callback.phase in {Phase.SENT, Phase.DEAD}:
            raise AssertionError(f"callback {callback.number} has ended twice")
        sent = outcome is Outcome.SENT
        callback.phase = Phase.SENT if sent else Phase.DEAD
        self.totals[outcome.value] += 1
        self.ended += 1
