"""A plain model of the batcher: given each call, it predicts the answer.

Where a script has a choice (which callbacks to claim, when a crashed one is due again), the model
gets the choice and checks whether it was allowed.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from callbacks.batcher.store import (
    CRASH_SPREAD_MS,
    HORIZON_MS,
    LATE_MS,
    MAX_CRASHES,
    MISSED_MS,
    WORD_INTERVALS,
    WORD_MIN_MS,
)
from callbacks.model import (
    Batch,
    Cancelled,
    Early,
    Go,
    Late,
    LaterWhy,
    Outcome,
    Recovered,
    Refused,
    Settled,
    needs_place,
)
from callbacks.policy.retry import MAX_THROTTLED, Decision
from callbacks.request.urls import host_of
from callbacks.settings import Settings
from callbacks.units import ms
from tests.redis.bench import Seen

LIVE: Final = ("claimed", "sending", "retry")
FINAL: Final = ("sent", "dead", "cancelled")
_RESULTS: Final = {phase: Settled[phase.upper()] for phase in (*FINAL, "retry", "queued")}


@dataclass
class Entry:
    """One callback.

    `lease` ends its stay in PROCESSING, `begun` counts the attempts since its last replay,
    `put_off` is its end of life while a request is in flight past it, `unused`: an attempt was
    given up, `counts_from` is when it starts to take a place of those for unproven destinations.
    """

    id: str
    destination: str
    url: str
    due: int
    end: int
    put_off: int = 0
    unused: bool = False
    phase: str = "queued"
    token: str | None = None
    recorded: bool = False
    lease: int = 0
    attempts: int = 0
    begun: int = 0
    retries: int = 0
    throttled: int = 0
    unsigned: int = 0
    crashes: int = 0
    at: int = 0
    nonce: str | None = None
    probe: bool = False
    refused: bool = False
    named: int = 0
    cancelling: bool = False
    reason: str = ""
    ended: int = 0
    counts_from: int = 0

    @property
    def place(self) -> int:
        """Its score in PROCESSING."""
        return -self.lease if self.phase == "sending" else self.due

    @property
    def shown_end(self) -> int:
        """Its score among the ends of life."""
        return self.put_off or self.end


class Ledger:
    """All callbacks of one example, the counters, and when requests were sent."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.lease_ms = ms(settings.stuck_after)
        self.attempt_ms = ms(settings.attempt_lease)
        self.entries: dict[str, Entry] = {}
        self.counts: Counter[str] = Counter()
        self.paused = self.full = False
        self.paused_destinations: set[str] = set()  # and `<host>#*`: all its lanes
        self.resumed_lanes: set[str] = set()  # resumed by themselves, since their host was paused
        self.gone: set[str] = set()
        self.fence = 0
        self.told: int | None = None
        self.last_batch: int | None = None
        self.words: dict[str, tuple[int, int]] = {}  # a worker's places, and until when
        self.unproven_most: int | None = None
        self.sends: dict[str, tuple[int, int]] = {}  # "" is all of them: instant, pace then

    def within(self, *phases: str) -> list[Entry]:
        found = (e for e in self.entries.values() if e.phase in phases)
        return sorted(found, key=lambda e: e.id)

    def stops(self, e: Entry) -> bool:
        return self.paused or self.is_paused(e.destination)

    def is_paused(self, name: str) -> bool:
        host = host_of(name)
        of_host = host != name and f"{host}#*" in self.paused_destinations
        return name in self.paused_destinations or (of_host and name not in self.resumed_lanes)

    def _oldest(self, phases: Iterable[str], time: str, until: int, limit: int) -> list[Entry]:
        found = [e for e in self.within(*phases) if getattr(e, time) <= until]
        return sorted(found, key=lambda e: (getattr(e, time), e.id))[:limit]

    def _finish(self, e: Entry, state: str, reason: str, now: int) -> None:
        e.phase, e.reason, e.ended, e.recorded = state, reason, now, True
        e.cancelling = e.probe = e.unused = False
        e.unsigned = 0
        e.nonce, e.named, e.lease, e.counts_from = None, 0, 0, 0
        self.counts[state] += 1

    def _requeue(self, e: Entry, due: int) -> None:
        e.phase, e.due, e.token, e.lease = "queued", due, None, 0
        e.named, e.probe, e.counts_from = 0, False, 0

    # Enqueueing

    def refuses(self, id: str) -> bool:
        most, queued = self.settings.max_queued, len(self.within("queued"))
        refused = id not in self.entries and (self.full or 0 < most <= queued)
        self.counts["refused"] += refused
        return refused

    def enqueue(self, entry: Entry) -> tuple[bool, bool]:
        """Whether it is accepted, and whether its id is known with another URL."""
        known = self.entries.get(entry.id)
        self.counts["duplicates" if known else "accepted"] += 1
        if known is None:
            self.entries[entry.id] = entry
        return known is None, known is not None and known.url != entry.url

    # Dispatching

    def claim(self, batch: Batch, now: int, before: Seen, after: Seen) -> None:
        """Check one claim, and apply what it chose."""
        s = self.settings
        assert not self.paused
        assert len(batch.callbacks) <= s.batch_size
        self._check_slots([c.slot_ms for c in batch.callbacks], now, before)
        if self.unproven_most is not None:
            held = sum(0 < e.counts_from <= now for e in self.entries.values())
            new = sum(needs_place(c.token) for c in batch.callbacks)
            assert new <= max(0, self.unproven_most - held), "more than there are places for"
        for c in batch.callbacks:
            e = self.entries[c.id]
            assert (e.phase, self.stops(e), e.url in self.gone) == ("queued", False, False)
            assert e.due <= now
            e.phase, e.token, e.due, e.recorded = "claimed", c.token, c.slot_ms, True
            e.lease = c.slot_ms + self.lease_ms
            assert needs_place(c.token) == before.needs_place(e.destination, now)
            e.counts_from = now if needs_place(c.token) else 0
            e.probe = "broken" in before.of(f"dest:{e.destination}")
        for id in after.of("dead").keys() - before.of("dead").keys():
            e = self.entries[id]  # a claim ends what its receiver no longer wants
            assert (e.phase, e.url in self.gone, e.due <= now) == ("queued", True, True)
            self._finish(e, "dead", "gone", now)
        if batch.callbacks:
            early = self.last_batch is not None and now - self.last_batch < ms(s.min_interval)
            assert not early, "a batch came before its time"
            self.last_batch = now

    def _check_slots(self, slots: list[int], now: int, before: Seen) -> None:
        stagger = before.pace_ms("state", "stagger", self.settings)
        assert all(now <= slot <= now + HORIZON_MS for slot in slots), slots
        assert all(y - x >= stagger for x, y in itertools.pairwise(slots)), slots

    # Sending

    def gate(self, id: str, token: str, nonce: str, now: int) -> Early | Refused | LaterWhy | None:
        """Predict the answer of `begin`; None: any that `go` allows."""
        e = self.entries.get(id)
        if e is None or e.token != token or e.phase not in LIVE:
            self.counts["stale"] += 1
            return Refused.STALE
        if e.phase == "sending":
            return None if e.nonce == nonce else Refused.BEGUN
        if e.due - now > 250:
            return Early(e.due - now)
        if e.shown_end <= now:
            return Refused.EXPIRED
        return LaterWhy.PAUSED if self.stops(e) else None

    def go(self, id: str, nonce: str, go: Go, before: Seen, after: Seen) -> bool:
        """Check an open gate and apply it; False: it repeated its earlier answer."""
        e, now, at = self.entries[id], go.now_ms, go.now_ms + go.wait_ms
        fresh, lapsed = e.phase != "sending", self.has_lapsed(id, now)
        stays = int(after.of(f"rec:{id}")["at"]) == e.at
        if not fresh and (now - e.at <= MISSED_MS or (e.unused and stays)):
            assert (go.attempt, at) == (e.attempts, max(now, e.at))
            return False
        if fresh or lapsed:
            self._check_room(e, now, before)
        self._check_pace(e, at, before)
        if fresh:
            self._count_attempt(e, go, before)
        e.phase, e.at, e.nonce, e.probe = "sending", at, nonce, go.probe
        e.refused = before.of(f"dest:{e.destination}").get("broken") == "2" and e.probe
        assert go.refused == e.refused
        e.lease = at + self.attempt_ms
        if before.needs_place(e.destination, now):
            assert not fresh or needs_place(e.token or ""), "sent without a place"
            e.counts_from = now
        else:
            latency = int(before.of(f"dest:{e.destination}").get("latency", 0))
            e.counts_from = at + (1 if latency >= 2_000 else max(1_000, 3 * latency))
        return True

    def has_lapsed(self, id: str, now: int) -> bool:
        e = self.entries[id]
        return e.phase == "sending" and e.lease <= now

    def _check_room(self, e: Entry, now: int, before: Seen) -> None:
        suspects = [
            o.crashes for o in self.within("sending") if o is not e and o.crashes and o.lease > now
        ]
        last = MAX_CRASHES - 1
        assert not (e.crashes and suspects) or max(e.crashes, *suspects) < last, "no trial alone"
        most = self.settings.destination_concurrency
        others = [
            o for o in self.within("sending") if o.destination == e.destination and o is not e
        ]
        d = before.of(f"dest:{e.destination}")
        allowed = most if "ok" in d and "broken" not in d else 1
        assert not most or sum(o.lease > now for o in others) < allowed, "too many in flight"

    def _check_pace(self, e: Entry, at: int, before: Seen) -> None:
        s = self.settings
        paces = {
            "": before.pace_ms("state", "stagger", s),
            e.destination: before.pace_ms(f"dest:{e.destination}", "interval", s),
        }
        for name, pace in paces.items():
            last, pace_then = self.sends.get(name, (0, 0))
            apart = 0 if e.phase == "sending" and last == e.at else min(pace, pace_then)
            assert not apart or at - last >= apart, f"too close: {name or 'all'}"
            self.sends[name] = (max(at, last), pace)

    def _count_attempt(self, e: Entry, go: Go, before: Seen) -> None:
        e.attempts, e.begun = e.attempts + 1, e.begun + 1
        self.counts["attempts"] += not e.unused
        used = (e.retries, e.throttled, e.crashes)
        assert (go.attempt, go.retries, go.throttled, go.crashes) == (e.attempts, *used)
        assert go.wait_ms <= 250
        assert go.probe == e.probe
        assert e.probe or "broken" not in before.of(f"dest:{e.destination}")
        assert e.begun == 1 + sum(used), "an attempt that nothing accounts for"
        most = (len(self.settings.retry_delays), MAX_THROTTLED, MAX_CRASHES - 1)
        assert all(n <= m for n, m in zip(used, most, strict=True)), "a budget is overdrawn"

    def wakes_up_cancelled(self, id: str, now: int) -> bool:
        """Whether a request is no longer wanted, and was never made: its sender was stopped."""
        e = self.entries[id]
        return e.phase == "sending" and e.cancelling and now - e.at > MISSED_MS

    def cancel_asleep(self, id: str, now: int) -> None:
        e = self.entries[id]
        self._finish(e, "cancelled", "cancelled", now)
        self.counts["stale"] += 1
        e.token = None

    def give_up(self, id: str) -> None:
        """Undo an attempt whose next instant would be too far ahead."""
        e = self.entries[id]
        assert not e.unused, "given up twice"
        e.phase, e.nonce, e.unused, e.put_off = "claimed", None, True, 0
        e.attempts, e.begun, e.counts_from = e.attempts - 1, e.begun - 1, 0
        e.lease = e.due + self.lease_ms

    def settle(self, id: str, token: str, attempt: int, d: Decision, now: int) -> Settled:
        e = self.entries.get(id)
        known = e and e.token == token and e.attempts == attempt and e.attempts
        if not e or not known or e.phase == "claimed":
            self.counts["stale"] += 1
            return Settled.STALE
        if e.phase != "sending":
            return _RESULTS[e.phase]
        if d.outcome is Outcome.RETRY and not e.cancelling:
            self._retry(e, d, now)
        else:
            state = "cancelled" if d.outcome is Outcome.RETRY else d.outcome.value
            reason = d.reason.value if d.reason else ""
            self._finish(e, state, "cancelled" if state == "cancelled" else reason, now)
        return _RESULTS[e.phase]

    def _retry(self, e: Entry, d: Decision, now: int) -> None:
        self.counts["throttled" if d.throttled else "retried"] += 1
        e.throttled, e.retries = e.throttled + d.throttled, e.retries + (not d.throttled)
        e.phase, e.due, e.put_off = "queued" if d.park else "retry", now + ms(d.delay_s), 0
        e.lease, e.named = 0 if d.park else e.due + self.lease_ms, 0
        e.probe = e.unused = False
        e.counts_from = e.unsigned = 0

    def release(
        self, id: str, token: str, due: int, why: LaterWhy, *, before: Seen, now: int
    ) -> bool:
        e = self.entries.get(id)
        if e is None or e.token != token or e.phase not in {"claimed", "retry"}:
            return False
        if e.phase == "retry" and e.due > now + 1000:
            return False
        waiting = before.of(f"lane:{e.destination}").values()
        if why is not LaterWhy.SUSPECT:  # it keeps its place before them
            due = min(due, *map(int, waiting), due)
        self._requeue(e, due)
        return True

    def withhold(self, id: str, now: int) -> Settled:
        """Undo an attempt that got no secret: it does not count."""
        e = self.entries[id]
        if e.phase != "sending":
            self.counts["stale"] += 1
            return Settled.STALE
        e.token = None
        if e.cancelling:
            self._finish(e, "cancelled", "cancelled", now)
            return Settled.CANCELLED
        self._requeue(e, now + min(60_000, 1_000 * 2**e.unsigned))
        e.nonce, e.unused, e.put_off, e.unsigned = None, True, 0, e.unsigned + 1
        e.attempts, e.begun = e.attempts - 1, e.begun - 1
        return Settled.QUEUED

    # Recovery

    def wake(self, limit: int, offset: int, repeats: int, now: int) -> Late:
        again = max(ms(self.settings.check_interval), 1000)
        late = self._oldest(("claimed", "retry"), "due", now - LATE_MS, 500)
        late = [e for e in late if e.due >= now - self.lease_ms][offset:][:limit]
        named, repeated = [], 0
        for e in late:
            if now - e.named >= again and repeated + bool(e.named) <= repeats:
                repeated += bool(e.named)
                e.named = now
                named.append((e.id, e.token or ""))
        return Late(len(late), repeated, tuple(named))

    def reclaim(self, limit: int, now: int, after: Seen) -> Recovered:
        done = [0, 0, 0]
        # By lease; for equal leases in Redis' descending order, the last ids first.
        stuck = sorted(
            self._oldest(("sending",), "lease", now, 999), key=lambda e: (-e.lease, e.id)
        )
        idle = self._oldest(("claimed", "retry"), "due", now - self.lease_ms, 999)
        for e in [*reversed(stuck), *idle][:limit]:
            self.counts["recovered"] += 1
            crashed = e.phase == "sending"
            e.crashes += crashed
            if crashed and (e.cancelling or e.crashes >= MAX_CRASHES):
                done[2 if e.cancelling else 1] += 1
                state, e.token = "cancelled" if e.cancelling else "dead", None
                self._finish(e, state, "crashed" if state == "dead" else state, now)
                continue
            due = after.due(e.destination, e.id)
            low, high = (e.crashes * n if crashed else 0 for n in CRASH_SPREAD_MS)
            assert now + low <= due <= now + high
            e.nonce, e.put_off, e.unused = None, 0, False
            self._requeue(e, due)
            done[0] += 1
        held = (e for e in self.entries.values() if 0 < e.counts_from <= now - 60_000)
        for e in sorted(held, key=lambda e: (e.counts_from, e.id))[:limit]:
            e.counts_from = now  # it is checked again after the others
        return Recovered(*done)

    def expire(self, limit: int, now: int) -> int:
        expired = 0
        for e in self._oldest(("queued", *LIVE), "shown_end", now, limit):
            if e.phase == "sending":
                e.put_off = now + self.attempt_ms
                continue
            self._finish(e, "dead", "expired", now)
            e.token = None
            expired += 1
        return expired

    def trim(self, limit: int, now: int) -> tuple[int, int]:
        """Delete old records; returns how many sent or cancelled ones and dead letters."""
        s, ended = self.settings, ("sent", "cancelled")
        over = max(0, min(limit, len(self.within(*ended)) - s.sent_max))
        sent = self._forget(self._oldest(ended, "ended", now, over))
        sent += self._forget(self._oldest(ended, "ended", now - ms(s.sent_ttl), limit - sent))
        dead = self._forget(self._oldest(("dead",), "ended", now - ms(s.dead_ttl), limit))
        self.counts["purged"] += dead
        return sent, dead

    def _forget(self, old: list[Entry]) -> int:
        for e in old:
            del self.entries[e.id]
        return len(old)

    def deaths(self, limit: int, now: int) -> tuple[int, list[tuple[str, str]]]:
        if self.told is None:
            self.told = now - 1000
            return self.told, []
        last = now - 1000
        died = [e for e in self._oldest(("dead",), "ended", last, 999) if e.ended > self.told]
        if len(died) >= limit:
            last = died[limit - 1].ended
        named = [(e.id, e.reason) for e in died if e.ended <= last]
        return max(last, self.told), named

    def tick(self, ticker: str, places: int, now: int, *, elected: bool) -> None:
        stays = max(WORD_MIN_MS, WORD_INTERVALS * ms(self.settings.check_interval))
        is_new = self.words.pop(ticker, None) is None
        if places:
            self.words[ticker] = (places, now + stays)
        if elected or (places and is_new):
            live = {t: told for t, told in self.words.items() if now < told[1] <= now + stays}
            self.words = live
            self.unproven_most = sum(its for its, _ in live.values()) or None

    # Control

    def cancel(self, id: str, now: int) -> Cancelled:
        e = self.entries.get(id)
        if e is None:
            return Cancelled.UNKNOWN
        if e.phase in FINAL:
            return Cancelled.CANCELLED if e.phase == "cancelled" else Cancelled.FINAL
        if e.phase == "sending":
            e.cancelling = True
            return Cancelled.IN_FLIGHT
        self._finish(e, "cancelled", "cancelled", now)
        e.token = None
        return Cancelled.CANCELLED

    def in_flight(self, where: str | None, now: int) -> int:
        """How many requests a pause reports in flight."""
        sending = [e for e in self.within("sending") if e.lease >= now]
        return sum(where in {None, e.destination} for e in sending)

    def replay(self, ids: list[str], now: int) -> int:
        dead = [self.entries[id] for id in ids if self._is_dead(id)]
        for e in dict.fromkeys(e.id for e in dead):
            entry = self.entries[e]
            self._requeue(entry, now)
            entry.retries = entry.throttled = entry.crashes = entry.begun = 0
            entry.end, entry.put_off = now + ms(self.settings.max_age), 0
            entry.reason = ""
            self.counts["replayed"] += 1
        return len({e.id for e in dead})

    def purge(self, ids: list[str]) -> int:
        purged = self._forget([self.entries[id] for id in {*ids} if self._is_dead(id)])
        self.counts["purged"] += purged
        return purged

    def _is_dead(self, id: str) -> bool:
        return id in self.entries and self.entries[id].phase == "dead"
