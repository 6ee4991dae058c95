"""One step of a claim: `lua/claim.lua`, with `startable_of` of lua/parts/places.lua."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from callbacks.batcher.store import CLAIM_STEP
from callbacks.model import Batch, Claimed, ClaimResult, Slots
from scripts.simulation.pace import reserved
from scripts.simulation.records import Phase
from scripts.simulation.turns import Line, Pick, Turn, deal

if TYPE_CHECKING:
    from scripts.simulation.state import State


class Claim:
    """What a step of a claim knows."""

    def __init__(self, shard: State, taken: int, slots: Slots | None) -> None:
        """`taken`: by the steps before; `slots`: of the whole batch, if other shards share them."""
        self.shard, self.c, self.now = shard, shard.c, shard.loop.now
        self.is_first, self.slots = not taken, slots
        left = self.c["batch_size"] - taken
        self.most, self.has_more = min(CLAIM_STEP, left), left > CLAIM_STEP
        self.given = max(0, slots.count - taken) if slots else None
        self.touched: list[Turn] = []

    def make(self) -> Batch:
        """Claim."""
        shard, now = self.shard, self.now
        shard.costs.call("claim", shard, 0)
        if 0 < shard.next_batch <= now:
            shard.next_batch = 0
        soonest = shard.last_batch + self.c["min_interval"]
        if self.is_first and shard.last_batch and shard.last_batch <= now < soonest:
            return self._nothing(ClaimResult.TOO_EARLY, soonest)
        late = shard.processing.overdue(now, self.c["late"], self.c["claim_lease"])
        if len(late) > self.c["batch_size"]:
            return self._come_back(ClaimResult.SATURATED, max(self.c["min_interval"], 500))
        if self.slots and self.given == 0:
            return self._come_back(ClaimResult.PACED, self.slots.again_ms)
        return self._claim()

    def _nothing(self, result: ClaimResult, earliest: int) -> Batch:
        return Batch(result, self.now, self.shard.arm_next(earliest))

    def _come_back(self, result: ClaimResult, wait_ms: int) -> Batch:
        self.shard.earliest = self.now + wait_ms
        return self._nothing(result, self.now + wait_ms)

    def _claim(self) -> Batch:
        shard, now, c = self.shard, self.now, self.c
        slot, stagger = self._first_slot()
        limit = now + c["horizon"]
        free: float = (
            min(self.most, math.floor((limit - slot) / stagger) + 1) if stagger else self.most
        )
        if self.given is not None:
            free = min(free, self.given)
        room = shard.room()
        proven, unproven = Line(free), Line(room)
        self._line_up(proven, unproven, free, room)
        if shard.threads:
            startable = self._startable()
            if startable <= 0:
                for turn in self.touched:
                    turn.found_in.put(turn.destination, turn.destination.place)
                return self._come_back(ClaimResult.BUSY, max(c["min_interval"], 100))
            free = free if stagger else min(free, startable)
        # Those lined up still count as waiting in their ring.
        proven_wait = any(turn.found_in is shard.ring for turn in self.touched)
        if unproven.turns and (proven_wait or shard.ring.first() < math.inf):
            limit = min(limit, now + c["window"])
        picked, slot = deal(
            proven,
            unproven,
            slot,
            stagger,
            most=free,
            limit=limit,
            window_end=now + c["window"],
        )
        return self._write(picked, slot, stagger)

    def _first_slot(self) -> tuple[int, int]:
        """The first slot, and the stagger."""
        shard, now, c = self.shard, self.now, self.c
        furthest = c["horizon"] + c["longest"]
        stored = shard.stored
        if self.slots:
            stored.stagger_us = self.slots.every_ms * 1_000
            first = now + self.slots.ahead_ms if self.is_first else max(now, stored.slot)
            return first, self.slots.every_ms
        stagger = stored.pace(c["stagger"], adapts=bool(c["adaptive"]))
        if not stagger:
            return now, 0
        slot = reserved(stored.slot, furthest, now)
        return max(now, slot, reserved(stored.send, furthest, now)), stagger

    def _line_up(self, proven: Line, unproven: Line, free: float, room: float) -> None:
        shard, short = self.shard, self.shard.short()
        for ring, most in ((shard.ring, free), (shard.unproven, min(free, room))):
            for destination in ring.take(self.now, int(most)):
                turn = Turn(destination, ring, shard, self.most, short=short)
                self.touched.append(turn)
                if turn.most > 0:
                    (unproven if turn.needs_place else proven).turns.append(turn)

    def _startable(self) -> int:
        """How many more the workers can begin until the next batch."""
        shard, now = self.shard, self.now
        latencies = [t.destination.latency for t in self.touched if t.destination.latency > 0]
        rate = (
            sum(1 / max(10, each) for each in latencies) / len(latencies) if latencies else 1 / 500
        )
        answers = math.floor(shard.threads * (self.c["min_interval"] + 250) * rate)
        processing = shard.processing
        processing.past_lease(now, 0)
        startable = min(self.c["batch_size"], shard.threads - processing.sending + answers)
        return startable - processing.about_to_begin(now)

    def _write(self, picked: Sequence[Pick], slot: int, stagger: int) -> Batch:
        shard, now, c = self.shard, self.now, self.c
        shard.costs.add("claim", shard, len(picked))
        claimed = []
        for callback, turn, at in picked:
            callback.phase, callback.due, callback.token = Phase.CLAIMED, at, shard.new_token()
            callback.needs_place, callback.probe = turn.needs_place, turn.destination.broken
            shard.processing.waiting[callback] = None
            if turn.needs_place:
                shard.taken.put(callback, now, now)
            claimed.append(Claimed(callback, callback.token, at))  # type: ignore[arg-type]
        shard.queued -= len(picked)
        for turn in self.touched:
            turn.done(c["begun_lease"], c["window"])
            if stagger and turn.taken and turn.destination.ok and not turn.destination.broken:
                shard.watched.tried[turn.destination] = now
        shard.next_batch = 0
        earliest = now + c["min_interval"]
        if stagger:
            earliest = max(earliest, slot - c["horizon"])
        if picked:
            shard.stored.slot, shard.last_batch, shard.earliest = slot, now, earliest
        return Batch(ClaimResult.CLAIMED, now, self._arm(picked, earliest), tuple(claimed))

    def _arm(self, picked: Sequence[Pick], earliest: int) -> int | None:
        if self.has_more and len(picked) == self.most:
            return None
        armed = self.shard.arm_next(earliest)
        if armed is None and len(picked) * 8 >= self.c["batch_size"]:
            return self.shard.arm_trigger(max(earliest, self.now + self.c["flow_interval"]))
        return armed
