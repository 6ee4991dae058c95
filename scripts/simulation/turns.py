"""Destinations taking turns in one claim, and the slots they get: `lua/parts/turns.lua`."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from scripts.simulation.records import Callback, Destination

if TYPE_CHECKING:
    from scripts.simulation.ring import Ring
    from scripts.simulation.state import State

#: What was dealt: a callback, its turn, its slot.
Pick = tuple[Callback, "Turn", int]


class Turn:
    """A destination's part in a claim."""

    __slots__ = (
        "alone",
        "destination",
        "exhausted",
        "found_in",
        "interval",
        "later",
        "most",
        "needs_place",
        "shard",
        "slot",
        "stalled",
        "taken",
        "waiting",
    )

    def __init__(
        self, destination: Destination, found_in: Ring, shard: State, most: int, *, short: bool
    ) -> None:
        """See whether it may send and when. `short`: unproven destinations have too many places."""
        d, concurrency = destination, shard.c["concurrency"]
        self.destination, self.found_in, self.shard, self.taken = d, found_in, shard, 0
        self.waiting: list[Callback] = []
        self.exhausted, self.later = False, 0
        unproven = not d.ok or d.broken
        self.stalled = short and not unproven and shard.is_stalled(d)
        self.needs_place = unproven or self.stalled
        self.slot = max(d.slot, d.send)
        self.interval = shard.interval_of(d)
        self.alone = d.broken or (concurrency > 0 and not d.ok)
        self.most = 1 if self.alone else most
        if concurrency:
            allowed = concurrency if d.ok else 1
            self.interval = max(self.interval, -(-d.latency // allowed))
            if shard.in_flight(d) >= allowed:
                self.most = 0

    def next(self) -> Callback | None:
        """The callback after those taken, if one is due."""
        lane = self.destination.lane
        if len(self.waiting) > self.taken:
            return self.waiting[self.taken]
        if not lane:
            self.exhausted = True
            return None
        if lane[0][0] > self.shard.loop.now:
            self.exhausted, self.later = True, lane[0][0]
            return None
        self.waiting.append(heapq.heappop(lane)[2])
        return self.waiting[self.taken]

    def put_back(self) -> None:
        """Put what was looked at and not taken back into its lane."""
        for callback in self.waiting[self.taken :]:
            heapq.heappush(self.destination.lane, (callback.due, callback.number, callback))
        del self.waiting[self.taken :]

    def done(self, held_ms: int, window: int) -> None:
        """Give the destination its hold, and its place in its ring."""
        d, now = self.destination, self.shard.loop.now
        waits = self.next()
        self.put_back()
        slot = d.send if self.taken and self.interval == 0 else self.slot
        if self.taken and (self.interval > 0 or slot < d.slot):
            d.slot = slot
        if self.most == 0 or (self.alone and self.taken):
            d.hold, d.why = now + held_ms, "breaker" if d.broken else "full"
        ring = self.shard.ring_of(d)
        if waits is None and not self.later:
            d.ring = None
            return
        keeps = waits is not None and not self.taken and self.most > 0 and self.slot <= now + window
        if keeps and not self.stalled:
            ring.put(d, d.place)
            return
        place = max(slot - window, d.hold, self.later if waits is None else 0, now)
        ring.put(d, max(place, now + 500) if keeps else place)


class Line:
    """The turns of one kind, in order. `left`: how many callbacks they may give together."""

    def __init__(self, left: float) -> None:
        self.turns: list[Turn] = []
        self.left = left

    def next(self, slot: int) -> tuple[int, int | None]:
        """The index of the first turn that can use this slot, or -1 and when the soonest can."""
        soonest: int | None = None
        if self.left <= 0:
            return -1, None
        for n, turn in enumerate(self.turns):
            if turn.slot <= slot:
                return n, soonest
            if soonest is None or turn.slot < soonest:
                soonest = turn.slot
        return -1, soonest


def deal(
    line: Line,
    other: Line,
    slot: int,
    stagger: int,
    *,
    most: float,
    limit: int,
    window_end: int,
) -> tuple[list[Pick], int]:
    """Deal slots to both lines in turn; returns what was dealt, and the slot after the last."""
    picked: list[Pick] = []
    while len(picked) < most and slot <= limit:
        at, soonest = line.next(slot)
        if at < 0:
            line, other = other, line
            at, second = line.next(slot)
            if second is not None and (soonest is None or second < soonest):
                soonest = second
        if at < 0:
            if soonest is None or soonest > window_end:
                break
            slot = soonest
            continue
        turn = line.turns.pop(at)
        callback = turn.next()
        if callback is None:
            continue
        turn.taken += 1
        turn.slot = slot + turn.interval
        picked.append((callback, turn, slot))
        slot += stagger
        line.left -= 1
        if turn.slot <= limit and turn.taken < turn.most:
            line.turns.append(turn)
        line, other = other, line
    return picked, slot
