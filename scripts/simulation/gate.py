"""The verbs that let a callback go, take it back unsent, and end its attempt."""

from __future__ import annotations

import math
from typing import Final

from callbacks.batcher.store import _KEPT_PLACE, FULL_HOLD_MS, MISSED_MS
from callbacks.model import LaterWhy, Outcome, Released
from callbacks.policy.outcome import Classification
from callbacks.policy.retry import Decision
from scripts.simulation.feedback import apply
from scripts.simulation.pace import instant
from scripts.simulation.records import NEVER, Callback, Destination, Phase
from scripts.simulation.state import State

#: Codes of `begin`, as in begin.lua.
NOTHING, GO, LATER, EARLY, BEGUN, AGAIN = 0, 1, 2, 3, 5, 6
_LIVE: Final = frozenset({Phase.CLAIMED, Phase.RETRY, Phase.SENDING})


class Gate(State):
    """What a sender asks of a shard."""

    # Sending

    def begin(
        self,
        callback: Callback,
        token: int,
        *,
        has_place: bool,
        ahead: int = -1,
        mine: bool = False,
    ) -> tuple[int, ...]:
        """The gate: {code, ...} as begin.lua returns it; {GO, wait, overdue}.

        `mine`: the caller has begun this attempt before, with the same nonce.
        """
        now, d = self.call("begin"), callback.destination
        if callback.token != token or callback.phase not in _LIVE:
            self.totals["stale"] += 1
            return (NOTHING,)
        if callback.phase is Phase.SENDING:
            return self._again(callback, ahead) if mine else (BEGUN,)
        refusal = self._refusal(callback, has_place=has_place)
        if refusal:
            return refusal
        at, far = self._instant(d, callback.due)
        if far:
            return LATER, at, LaterWhy.PACE
        callback.attempts += not callback.is_counted
        callback.is_counted = False
        needs_place = self._needs_place(d)
        self._go(callback, at, needs_place=needs_place)
        return GO, at - now, 0 if needs_place else self.overdue_from(0, d.latency)

    def _needs_place(self, d: Destination) -> bool:
        return not d.ok or d.broken or (self.short() and self.is_stalled(d))

    def _refusal(self, callback: Callback, *, has_place: bool) -> tuple[int, ...]:
        """What keeps it from being sent now, apart from the paces; empty if nothing does."""
        now, d = self.loop.now, callback.destination
        early = callback.due - now
        if early > self.c["max_wait"]:
            return EARLY, early
        if d.broken and not callback.probe:
            return LATER, max(now, d.hold), LaterWhy.ON_HOLD
        if d.hold > now and d.why == "park":
            return LATER, d.hold, LaterWhy.ON_HOLD
        if not has_place and self._needs_place(d):
            return LATER, now, LaterWhy.UNPROVEN
        return self._is_full(d, early)

    def _is_full(self, d: Destination, early: int) -> tuple[int, ...]:
        now, concurrency = self.loop.now, self.c["concurrency"]
        if not concurrency:
            return ()
        if early > 10 and max(self._paces(d)) < 100:
            return AGAIN, early - 5
        allowed = 1 if not d.ok or d.broken else concurrency
        return (LATER, now, LaterWhy.FULL) if self.in_flight(d) >= allowed else ()

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
        since = now if needs_place else self.overdue_from(at, d.latency)
        self.taken.put(callback, since, now)
        callback.phase, callback.began_at, callback.interval = Phase.SENDING, at, interval
        if stagger:
            self.stored.send = at + stagger
        d.send = at + interval

    def _again(self, callback: Callback, ahead: int) -> tuple[int, ...]:
        """A sender that has begun asks once more: it missed its instant, or is put off."""
        now, d, at = self.loop.now, callback.destination, callback.began_at
        needs_place = self._needs_place(d)
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
        return GO, max(0, at - now), 0 if needs_place else self.overdue_from(0, d.latency)

    def release(
        self, callback: Callback, token: int, due: int, *, why: LaterWhy = LaterWhy.PACE
    ) -> Released:
        """Give a claimed callback back to its lane."""
        now, d, due = self.call("release"), callback.destination, due or self.loop.now
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
        callback.token, callback.probe, callback.woken_at = 0, False, NEVER
        self.queued += 1
        self.to_lane(callback, due)
        next_at = self.to_ring(d)
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
        *,
        decision: Decision,
        classification: Classification,
        duration_ms: int,
    ) -> tuple[bool, int | None]:
        """End an attempt: whether it was still the caller's, and when to send a trigger."""
        now, d = self.call("settle"), callback.destination
        ours = callback.token == token and callback.attempts == attempt
        if not ours or callback.phase is not Phase.SENDING:
            self.totals["stale"] += 1
            return False, None
        self.leave(callback)
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
            self.end(callback, decision.outcome)
        next_at = self.to_ring(d)
        if callback.needs_place or duration_ms >= 1_000:
            next_at = min(next_at, self.unproven.first())
        return True, None if next_at == math.inf else self.arm_trigger(max(now, next_at))

    def _retry(self, callback: Callback, decision: Decision) -> None:
        due = self.loop.now + round(decision.delay_s * 1_000)
        callback.probe, callback.woken_at = False, NEVER
        if decision.throttled:
            callback.throttled += 1
        else:
            callback.retries += 1
        if decision.park:
            self.queued += 1
            self.to_lane(callback, due)
            return
        callback.phase, callback.due = Phase.RETRY, due
        self.processing.waiting[callback] = None
