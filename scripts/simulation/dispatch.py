"""The verbs that accept, look and dispatch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from callbacks.model import Batch, Demand, Look, Signal, Slots, Tick, Unlocked
from callbacks.policy.stagger import Stagger
from scripts.simulation.claims import Claim
from scripts.simulation.pace import reserved
from scripts.simulation.records import Callback
from scripts.simulation.state import State

_MINUTE_MS: Final = 60_000


class Queue(State):
    """What a producer, a check and a dispatcher ask of a shard."""

    # Enqueueing, looking

    def enqueue(self, callbacks: Sequence[Callback]) -> list[tuple[Signal, int]]:
        """Accept callbacks; the messages that their caller has to send."""
        now = self.call("enqueue", len(callbacks))
        signals = []
        for callback in callbacks:
            self.to_lane(callback, now)
            self.queued += 1
        self._count_accepted(len(callbacks))
        for _ in callbacks:
            signal, wait = self._wake(now)
            if signal:
                signals.append((signal, wait))
        return signals

    def _count_accepted(self, count: int) -> None:
        self.totals["accepted"] += count
        bucket = self.loop.now // 10_000
        before = (
            self._accepted.pop() if self._accepted and self._accepted[-1][0] == bucket else None
        )
        self._accepted.append((bucket, count + (before[1] if before else 0)))

    def _wake(self, now: int) -> tuple[Signal, int]:
        wanted = now + self.c["max_delay"]
        size = self.c["batch_size"]
        if wanted > now and self.queued >= size and self.peek_at <= now:
            self.peek_at = now + 200
            if self.ready(size)[0] >= size:
                wanted = now
        earliest = reserved(self.earliest, self.c["look_ahead"], now)
        armed = self.next_batch
        if armed > 0 and now <= max(armed, now) and armed <= max(wanted, earliest, now):
            return Signal.NONE, 0
        if wanted <= now:
            self.next_batch = now
            return Signal.TRIGGER, 0
        if now < self.check_at <= wanted or wanted - now > _MINUTE_MS:
            return Signal.NONE, 0
        self.check_at = wanted
        return Signal.CHECK, wanted - now

    def look(self) -> Look:
        """Read what waits."""
        now = self.call("look")
        ready, oldest = self.ready(self.c["batch_size"])
        soon = self.ring.first()
        if self.room() > 0:
            soon = min(soon, self.unproven.first())
        return Look(
            now_ms=now,
            paused=False,
            ready=ready,
            oldest_due_ms=oldest,
            next_ready_ms=int(soon) if now < soon < math.inf else None,
            queued=self.queued,
            processing=len(self.processing),
            trigger_lost=0 < self.next_batch < now - 1_000,
        )

    def arm(self, wait_ms: int) -> bool:
        """Ask for a check, unless one is on its way."""
        now = self.call("arm")
        if now < self.check_at <= now + wait_ms + 50:
            return False
        self.check_at = now + wait_ms
        return True

    def load(self) -> tuple[int, int]:
        """Read what this shard could use: places for unproven destinations, threads."""
        now = self.call("load")
        waiting = len(self.unproven.until(now))
        ready, _ = self.ready(self.c["batch_size"])
        return self.taken.count(now) + waiting, len(self.processing) + ready + waiting

    def tick(
        self,
        ticker: str,
        interval_ms: int,
        *,
        known: str = "",
        threads: int = 0,
        places: int = 0,
    ) -> Tick:
        """Learn how many places all workers have, or this shard's part of them."""
        now = self.call("tick")
        elected = now >= self._tick_until
        if elected:
            self._tick_until = now + interval_ms
            self.threads, self.unproven_most = threads, places or math.inf
        return Tick(elected, now, lost=False, epoch="1", busy=True, threads=threads, places=places)

    # Dispatching

    def follow(self) -> None:
        """Nobody pauses everything here, so no shard can have missed that."""

    def lock(self, owner: str) -> int:
        """A dispatch takes no time here, so the lock is always free."""
        self.call("lock")
        return 1

    def unlock(self, owner: str, fence: int) -> Unlocked:
        """Release it."""
        now = self.call("unlock")
        return Unlocked.MISSED if 0 < self.next_batch <= now else Unlocked.DONE

    def want(self) -> int:
        """How many slots this shard could use within the horizon."""
        now = self.call("want")
        size, wanted = self.c["batch_size"], 0
        horizon, soon = self.c["horizon"], now + self.c["window"]
        for ring, most in ((self.ring, size), (self.unproven, min(size, self.room()))):
            found = ring.take(now, int(most))
            for d in found if ring is self.ring else ():
                pace = self.interval_of(d)
                ready = sum(each[0] <= soon for each in d.lane)
                wanted += min(1 + horizon // pace if pace else size, ready)
            wanted += len(found) if ring is self.unproven else 0
            ring.put_back(found)
        return min(wanted, size)

    def demand(self) -> Demand:
        """What the stagger is decided by."""
        now = self.call("demand")
        soon = now + self.c["begun_lease"]
        found = self.ring.until(soon)[:1_000]
        ready = sum(len(d.lane) for d in found)
        untold = sum(self.watched.tried.get(d, -_MINUTE_MS) < now - _MINUTE_MS for d in found)
        waiting = len(self.unproven.until(soon))
        since = min(500, max(250, now - self.last_batch))
        stagger = self.stored.stagger_us or 0
        if stagger:
            ready += int(max(0, self.stored.slot - now) * 1_000 // stagger)
        return Demand(
            ready,
            self._accepted_per_s(now),
            None if self.stored.rate < 0 else self.stored.rate / 1_000,
            untold + self.watched.since(self.watched.tried, now - _MINUTE_MS),
            self.watched.since(self.watched.failing, now - _MINUTE_MS),
            int(min(waiting, self.unproven_most)),
            waiting,
            int(min(waiting, self.room()) * 1_000 // since),
        )

    def _accepted_per_s(self, now: int) -> float:
        bucket, share = now // 10_000, now % 10_000 / 10_000
        counts = dict(self._accepted)
        return int(counts.get(bucket, 0) + (1 - share) * counts.get(bucket - 1, 0)) / 10

    def set_stagger(self, stagger: Stagger) -> bool:
        """Store the stagger, where there are no other shards."""
        self.call("set_stagger")
        return self.stored.set(stagger, self.loop.now)

    def take(
        self, wait_ms: int, pace_ms: int, *, must: bool = False, adapts: bool | None = None
    ) -> tuple[int, bool]:
        """Take an instant of this shard's part of the stagger, while the home is away."""
        now = self.call("take")
        at = max(now + wait_ms, reserved(self.stored.send, self.c["longest"], now))
        if at - now > self.c["max_wait"] and not must:
            return at - now, False
        self.stored.send = at + pace_ms
        return at - now, True

    def claim(
        self,
        owner: str,
        fence: int,
        *,
        taken: int = 0,
        slots: Slots | None = None,
    ) -> Batch:
        """Claim one step of a batch, as claim.lua."""
        return Claim(self, taken, slots).make()
