"""One shard: the verbs of `callbacks/batcher/lua` that decide, as `Batcher` has them.

The duties of the package call these methods as they call a `Batcher`. A callback stands for its id.
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Any, Final

from callbacks.batcher.store import (
    _KEPT_PLACE,
    FULL_HOLD_MS,
    MAX_CRASHES,
    MISSED_MS,
    _constants,
)
from callbacks.model import (
    Batch,
    Demand,
    Late,
    LaterWhy,
    Look,
    Outcome,
    Recovered,
    Released,
    Signal,
    Slots,
    Tick,
    Unlocked,
)
from callbacks.policy.outcome import Classification
from callbacks.policy.retry import Decision
from callbacks.policy.stagger import Stagger
from callbacks.settings import Settings
from scripts.simulation.claims import Claim
from scripts.simulation.costs import Costs
from scripts.simulation.events import Loop
from scripts.simulation.feedback import Watched, apply
from scripts.simulation.home import Stored
from scripts.simulation.pace import instant, reserved
from scripts.simulation.processing import Processing, Taken
from scripts.simulation.records import Callback, Destination, Phase
from scripts.simulation.ring import Ring

_MINUTE_MS: Final = 60_000
#: A destination that takes so long to answer counts as one that hangs.
_SLOW_MS: Final = 2_000
#: How much further a crashed callback of one pass is put off than the one before it (reclaim.lua).
_GOLDEN: Final = 0.6180339887

#: Codes of `begin`, as in begin.lua.
NOTHING, GO, LATER, EARLY, BEGUN, AGAIN = 0, 1, 2, 3, 5, 6


class Shard:
    """The state and the verbs of one shard. `shard` None: it is the only one."""

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

    def _call(self, verb: str, items: int = 1) -> int:
        """Count a call; raises if this shard is away. Returns the time."""
        self.costs.call(verb, self, items)
        return self.loop.now

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

    def _gate(self, d: Destination) -> int:
        return max(d.slot - self.c["window"], d.send - self.c["window"], d.hold)

    def _to_lane(self, callback: Callback, due: int) -> None:
        d = callback.destination
        callback.phase, callback.due = Phase.QUEUED, due
        heapq.heappush(d.lane, (due, callback.number, callback))
        self.ring_of(d).join(d, max(self._gate(d), due))

    def _to_ring(self, d: Destination) -> float:
        if not d.lane:
            d.ring = None
            return math.inf
        place = max(self._gate(d), d.lane[0][0], self.loop.now)
        self.ring_of(d).put(d, place)
        return place

    def short(self) -> bool:
        return self.taken.count(self.loop.now) > 1.25 * self.unproven_most

    def room(self) -> float:
        return max(0, self.unproven_most - self.taken.count(self.loop.now))

    def _overdue_from(self, at: int, latency: int) -> int:
        return at + 1 if latency >= _SLOW_MS else at + max(1_000, 3 * latency)

    # Enqueueing, looking

    def enqueue(self, callbacks: Sequence[Callback]) -> list[tuple[Signal, int]]:
        """Accept callbacks; the messages that their caller has to send."""
        now = self._call("enqueue", len(callbacks))
        signals = []
        for callback in callbacks:
            self._to_lane(callback, now)
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
        before = self._accepted.pop() if self._accepted and self._accepted[-1][0] == bucket else None
        self._accepted.append((bucket, count + (before[1] if before else 0)))

    def _wake(self, now: int) -> tuple[Signal, int]:
        wanted = now + self.c["max_delay"]
        size = self.c["batch_size"]
        if wanted > now and self.queued >= size and self.peek_at <= now:
            self.peek_at = now + 200
            if self._ready(size)[0] >= size:
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

    def _ready(self, limit: int) -> tuple[int, int | None]:
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

    def look(self) -> Look:
        """Read what waits."""
        now = self._call("look")
        ready, oldest = self._ready(self.c["batch_size"])
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
        now = self._call("arm")
        if now < self.check_at <= now + wait_ms + 50:
            return False
        self.check_at = now + wait_ms
        return True

    def load(self) -> tuple[int, int]:
        """Read what this shard could use: places for unproven destinations, threads."""
        now = self._call("load")
        waiting = len(self.unproven.until(now))
        ready, _ = self._ready(self.c["batch_size"])
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
        now = self._call("tick")
        elected = now >= self._tick_until
        if elected:
            self._tick_until = now + interval_ms
            self.threads, self.unproven_most = threads, places or math.inf
        return Tick(elected, now, lost=False, epoch="1", busy=True, threads=threads, places=places)

    # Dispatching

    def lock(self, owner: str) -> int:
        """A dispatch takes no time here, so the lock is always free."""
        self._call("lock")
        return 1

    def unlock(self, owner: str, fence: int) -> Unlocked:
        """Release it."""
        now = self._call("unlock")
        return Unlocked.MISSED if 0 < self.next_batch <= now else Unlocked.DONE

    def want(self) -> int:
        """How many slots this shard could use within the horizon."""
        now = self._call("want")
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
        now = self._call("demand")
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
        self._call("set_stagger")
        return self.stored.set(stagger, self.loop.now)

    def take(
        self, wait_ms: int, pace_ms: int, *, must: bool = False, adapts: bool | None = None
    ) -> tuple[int, bool]:
        """Take an instant of this shard's part of the stagger, while the home is away."""
        now = self._call("take")
        at = max(now + wait_ms, reserved(self.stored.send, self.c["longest"], now))
        if at - now > self.c["max_wait"] and not must:
            return at - now, False
        self.stored.send = at + pace_ms
        return at - now, True

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

    def new_token(self) -> int:
        """A token that no other claim has."""
        self._claims += 1
        return self._claims

    # Sending

    def begin(
        self, callback: Callback, token: int, *, has_place: bool, ahead: int = -1, mine: bool = False
    ) -> tuple[int, ...]:
        """The gate: {code, ...} as begin.lua returns it; {GO, wait, overdue}.

        `mine`: the caller has begun this attempt before, with the same nonce.
        """
        now, c, d = self._call("begin"), self.c, callback.destination
        if callback.token != token or callback.phase not in {
            Phase.CLAIMED,
            Phase.RETRY,
            Phase.SENDING,
        }:
            self.totals["stale"] += 1
            return (NOTHING,)
        if callback.phase is Phase.SENDING:
            return self._again(callback, ahead) if mine else (BEGUN,)
        if callback.due - now > c["max_wait"]:
            return EARLY, callback.due - now
        unproven = not d.ok or d.broken
        needs_place = unproven or (self.short() and self.is_stalled(d))
        if d.broken and not callback.probe:
            return LATER, max(now, d.hold), LaterWhy.ON_HOLD
        if d.hold > now and d.why == "park":
            return LATER, d.hold, LaterWhy.ON_HOLD
        if needs_place and not has_place:
            return LATER, now, LaterWhy.UNPROVEN
        stagger, interval = self._paces(d)
        concurrency, ahead_ms = c["concurrency"], callback.due - now
        if concurrency and ahead_ms > 10 and max(stagger, interval) < 100:
            return AGAIN, ahead_ms - 5
        if concurrency and self.in_flight(d) >= (1 if unproven else concurrency):
            return LATER, now, LaterWhy.FULL
        at, far = self._instant(d, callback.due)
        if far:
            return LATER, at, LaterWhy.PACE
        callback.attempts += not callback.is_counted
        callback.is_counted = False
        self._go(callback, at, needs_place=needs_place)
        return GO, at - now, 0 if needs_place else self._overdue_from(0, d.latency)

    def _paces(self, d: Destination) -> tuple[int, int]:
        adapts = bool(self.c["adaptive"])
        return self.stored.pace(self.c["stagger"], adapts=adapts), self.interval_of(d)

    def _instant(self, d: Destination, due: int, unused: int | None = None) -> tuple[int, bool]:
        stagger, interval = self._paces(d)
        return instant(
            self.loop.now,
            due,
            over_all=(self.stored.send, stagger),
            own=(d.send, interval),
            max_wait=self.c["max_wait"],
            longest=self.c["longest"],
            unused=unused,
        )

    def _go(self, callback: Callback, at: int, *, needs_place: bool) -> None:
        d, now = callback.destination, self.loop.now
        stagger, interval = self._paces(d)
        expires = at + self.c["attempt_lease"]
        d.inflight[callback] = expires
        self.processing.begin(callback, expires)
        since = now if needs_place else self._overdue_from(at, d.latency)
        self.taken.put(callback, since, now)
        callback.phase, callback.began_at, callback.interval = Phase.SENDING, at, interval
        if stagger:
            self.stored.send = at + stagger
        d.send = at + interval

    def _again(self, callback: Callback, ahead: int) -> tuple[int, ...]:
        """A sender that has begun asks once more: it missed its instant, or is put off."""
        now, d, at = self.loop.now, callback.destination, callback.began_at
        needs_place = not d.ok or d.broken
        if now - at > MISSED_MS or (ahead >= 0 and now + ahead > at):
            due = max(callback.due, now + ahead)
            anew, far = self._instant(d, due, at)
            if far and not callback.is_counted:
                d.inflight.pop(callback, None)
                self.taken.leave(callback)
                self.processing.leave(callback)
                self.processing.waiting[callback] = None
                callback.phase, callback.is_counted = Phase.CLAIMED, True
                return LATER, anew, LaterWhy.PACE
            if not far or ahead >= 0:
                at = anew
                self._go(callback, at, needs_place=needs_place)
        return GO, max(0, at - now), 0 if needs_place else self._overdue_from(0, d.latency)

    def release(
        self, callback: Callback, token: int, due: int, *, why: LaterWhy = LaterWhy.PACE
    ) -> Released:
        """Give a claimed callback back to its lane."""
        now, d, due = self._call("release"), callback.destination, due or self.loop.now
        ours = callback.token == token and callback.phase in {Phase.CLAIMED, Phase.RETRY}
        if not ours or (callback.phase is Phase.RETRY and callback.due > now + 1_000):
            return Released(released=False)
        place = _KEPT_PLACE.get(why, 1)
        if place and d.lane:
            due = min(due, d.lane[0][0])
        self.processing.leave(callback)
        self.taken.leave(callback)
        if why is LaterWhy.FULL:
            if not d.why:
                d.hold, d.why = now + FULL_HOLD_MS, "full"
        elif d.why == "full" or (callback.probe and d.why == "breaker"):
            d.hold, d.why = 0, ""
        callback.token, callback.probe, callback.woken_at = 0, False, -_MINUTE_MS
        self.queued += 1
        self._to_lane(callback, due)
        next_at = self._to_ring(d)
        if place == 2 and next_at < math.inf and d.ring is self.unproven:
            self.unproven.join(d, int(min(next_at, self.unproven.first())))
        if callback.needs_place:
            next_at = min(next_at, self.unproven.first())
        return Released(True, None if next_at == math.inf else self.arm_trigger(max(now, next_at)))

    def settle(
        self,
        callback: Callback,
        token: int,
        attempt: int,
        decision: Decision,
        classification: Classification,
        duration_ms: int,
    ) -> tuple[bool, int | None]:
        """End an attempt: whether it was still the caller's, and when to send a trigger."""
        now, d = self._call("settle"), callback.destination
        ours = callback.token == token and callback.attempts == attempt
        if not ours or callback.phase is not Phase.SENDING:
            self.totals["stale"] += 1
            return False, None
        self._leave(callback)
        apply(
            d,
            classification.feedback,
            decision.reason,
            began_at=callback.began_at,
            probe=callback.probe,
            duration_ms=duration_ms,
            now=now,
            c=self.c,
            watched=self.watched,
        )
        if decision.outcome is Outcome.RETRY:
            self._retry(callback, decision)
        else:
            self._end(callback, decision.outcome)
        next_at = self._to_ring(d)
        if callback.needs_place or duration_ms >= 1_000:
            next_at = min(next_at, self.unproven.first())
        return True, None if next_at == math.inf else self.arm_trigger(max(now, next_at))

    def _leave(self, callback: Callback) -> None:
        self.processing.leave(callback)
        self.taken.leave(callback)
        callback.destination.inflight.pop(callback, None)

    def _end(self, callback: Callback, outcome: Outcome) -> None:
        if callback.phase in {Phase.SENT, Phase.DEAD}:
            raise AssertionError(f"callback {callback.number} has ended twice")
        sent = outcome is Outcome.SENT
        callback.phase = Phase.SENT if sent else Phase.DEAD
        self.totals[outcome.value] += 1
        self.ended += 1

    def _retry(self, callback: Callback, decision: Decision) -> None:
        due = self.loop.now + round(decision.delay_s * 1_000)
        callback.probe, callback.woken_at = False, -_MINUTE_MS
        if decision.throttled:
            callback.throttled += 1
        else:
            callback.retries += 1
        if decision.park:
            self.queued += 1
            self._to_lane(callback, due)
            return
        callback.phase, callback.due = Phase.RETRY, due
        self.processing.waiting[callback] = None

    # Recovery

    def wake(self, limit: int, *, offset: int = 0, repeats: int) -> Late:
        """List claimed callbacks past their slot, whose messages may be lost."""
        now = self._call("wake")
        late = self.processing.overdue(now, self.c["late"], self.c["claim_lease"])
        late = late[offset : offset + limit]
        named, repeated = [], 0
        for callback in late:
            was = callback.woken_at > 0
            if now - callback.woken_at >= self.c["again"] and repeated + was <= repeats:
                callback.woken_at = now
                repeated += was
                named.append((callback, callback.token))
        return Late(len(late), repeated, tuple(named))  # type: ignore[arg-type]

    def reclaim(self, limit: int, *, chance: float) -> Recovered:
        """Take back what is past its lease."""
        now = self._call("reclaim")
        stuck = self.processing.past_lease(now, limit)
        lease_ms = self.c["claim_lease"]
        lost = self.processing.overdue(now, lease_ms, 10 * lease_ms)[: limit - len(stuck)]
        dead = 0
        for n, callback in enumerate([*stuck, *lost], start=1):
            crashed, due = callback.phase is Phase.SENDING, now
            self._leave(callback)
            callback.token, callback.probe, callback.woken_at = 0, False, -_MINUTE_MS
            callback.crashes += crashed
            if callback.crashes >= MAX_CRASHES:
                self._end(callback, Outcome.DEAD)
                dead += 1
                continue
            if crashed:
                least, most = self._crash_spread_ms
                share = (chance + n * _GOLDEN) % 1
                due += int(callback.crashes * (least + share * (most - least)))
            self.queued += 1
            self._to_lane(callback, due)
        self.totals["recovered"] += len(stuck) + len(lost)
        return Recovered(len(stuck) + len(lost) - dead, dead, 0)
