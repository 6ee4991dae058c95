"""QUEUE and PROCESSING in Redis: one method for each Lua verb of a callback's way.

The methods turn settings into milliseconds on the way in and codes into values on the way
out; an unknown code raises. All verbs decide by the server's clock.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import redis
from redis import Redis

from callbacks.batcher import replies
from callbacks.batcher.clock import HELD_MS, RedisClock, Seen
from callbacks.batcher.keys import Keys
from callbacks.batcher.paging import pages
from callbacks.batcher.scripts import VERBS, Scripts, Verb
from callbacks.model import (
    Batch,
    Cancelled,
    Demand,
    Feedback,
    Gate,
    Late,
    LaterWhy,
    Look,
    Outcome,
    Reason,
    Recovered,
    Released,
    Settled,
    Settlement,
    Stored,
    Tick,
    Trimmed,
    Unlocked,
    Withheld,
)
from callbacks.policy.stagger import Stagger
from callbacks.request.urls import digest
from callbacks.units import ms, us

if TYPE_CHECKING:
    from callbacks.settings import Settings

#: No slot lies further ahead, so what is claimed is always little.
HORIZON_MS: Final = 2_000
#: A destination is claimed from so long before its next slot, and by `min_interval` more: the
#: next batch and its messages have to come in time.
WINDOW_MS: Final = 300
#: How long a thread may sleep until its reserved instant.
MAX_WAIT_MS: Final = 250
#: From here on a claimed callback that has not begun counts as late.
LATE_MS: Final = 1_000
#: A destination that was full is not claimed from for so long, or until a request ends.
FULL_HOLD_MS: Final = 1_000
#: While callbacks keep coming, a batch follows the last one by so much at the latest.
FLOW_INTERVAL_MS: Final = 500
#: A sender that comes so long after its instant needs a new one.
MISSED_MS: Final = 10
#: The lock outlives every claim with its messages by far, and a dead dispatcher by little. One
#: that stalls for longer loses it, and the claim, which checks it, claims nothing.
LOCK_TTL_MS: Final = 2_000
MAX_CRASHES: Final = 3
#: Without a secret a destination waits so long, doubling up to that.
SECRET_HOLD_MS: Final = (1_000, 60_000)
#: So many callbacks are taken in by one script: half a millisecond.
ENQUEUE_STEP: Final = 50
#: So many are claimed by one script: 2 ms where each is of another destination.
CLAIM_STEP: Final = 50
#: So many dead letters are forgotten by one script, with 250 KB each 2 ms.
DEAD_STEP: Final = 50
#: So many dead letters are replayed or purged by one script: a millisecond or two.
STEER_STEP: Final = 50
#: So many leases are renewed by one script: 2 ms.
RENEW_STEP: Final = 100
#: How long the answer to what people do is kept, for a repeat after a lost reply.
ANSWER_MS: Final = 60_000
CRASH_SPREAD_MS: Final = (5_000, 30_000)
#: Apart from a claimed callback's lease by more than clocks and waits can blur.
_BEGUN_BLUR_MS: Final = 1_000
#: How much of its place a released callback keeps: none; its own; its destination's, too.
_KEPT_PLACE: Final = {LaterWhy.SUSPECT: 0, LaterWhy.UNPROVEN: 2}
#: A process's word on its places counts for as many check intervals, and not for less than this.
WORD_INTERVALS: Final = 4
WORD_MIN_MS: Final = 10_000

#: id, destination, packed request, ms before it is due, ms after which it expires.
Enqueued = tuple[str, str, bytes, int, int]


def _constants(s: Settings) -> dict[str, int]:
    """What the verbs take from the settings, in their units, by the names in their headers."""
    longest_s = s.destination_interval_max if s.adaptive else s.destination_interval
    secret_hold_min, secret_hold_max = SECRET_HOLD_MS
    return {
        # Batches
        "batch_size": s.batch_size,
        "max_queued": s.max_queued,
        "max_delay": ms(s.max_delay),
        "min_interval": ms(s.min_interval),
        "flow_interval": max(FLOW_INTERVAL_MS, ms(s.min_interval)),
        "look_ahead": max(ms(s.check_interval), ms(s.min_interval)),
        "window": min(HORIZON_MS, ms(s.min_interval) + WINDOW_MS),
        "horizon": HORIZON_MS,
        "lock_ttl": LOCK_TTL_MS,
        # Paces
        "stagger": ms(s.send_interval),
        "interval": ms(s.destination_interval),
        "interval_us": us(s.destination_interval),
        "interval_min_us": us(s.destination_interval_min),
        "interval_max_us": us(s.destination_interval_max),
        "adaptive": int(s.adaptive),
        "longest": ms(s.longest_interval),
        "longest_interval": ms(max(longest_s, s.destination_interval)),
        "concurrency": s.destination_concurrency,
        "max_wait": MAX_WAIT_MS,
        # Leases and lateness
        "claim_lease": ms(s.stuck_after),
        "attempt_lease": ms(s.attempt_lease),
        "begun_lease": ms(s.attempt_lease) + _BEGUN_BLUR_MS,
        "late": LATE_MS,
        "again": max(ms(s.check_interval), 1_000),
        "max_crashes": MAX_CRASHES,
        "last": MAX_CRASHES - 1,
        # Breaker and secrets
        "failures": s.breaker_failures,
        "open_min": ms(s.breaker_open_min),
        "open_max": ms(s.breaker_open_max),
        "secret_hold_min": secret_hold_min,
        "secret_hold_max": secret_hold_max,
        # How long things are kept
        "max_age": ms(s.max_age),
        "sent_ttl": ms(s.sent_ttl),
        "dead_ttl": ms(s.dead_ttl),
        "answer_ttl": ANSWER_MS,
        "word_ttl": max(WORD_MIN_MS, WORD_INTERVALS * ms(s.check_interval)),
        "held_for": HELD_MS,
    }


class Batcher:
    """The verbs on one Redis and one namespace.

    Every method may raise redis' own errors. Those that change something may be repeated
    with the same arguments: the second call changes nothing.
    """

    def __init__(
        self, client: Redis, settings: Settings, *, verbs: Mapping[str, Verb] = VERBS
    ) -> None:
        self.settings = settings
        keys = Keys(settings.namespace)
        self.scripts = Scripts(client, keys, constants=_constants(settings), verbs=verbs)
        self.clock = RedisClock()

    # Taking in

    def enqueue(
        self, id: str, destination: str, packed: bytes, *, delay_ms: int, life_ms: int
    ) -> Stored:
        """Store one callback; it is accepted when this returns.

        Raises `QueueFull` where nothing was stored for want of room.
        """
        call = self._enqueue_call([(id, destination, packed, delay_ms, life_ms)])
        try:
            return replies.stored(*self.scripts.run("enqueue", call, tries=1))
        except redis.OutOfMemoryError as error:
            raise replies.no_room() from error

    def enqueue_many(self, items: Iterable[Enqueued]) -> list[Stored | Exception]:
        """Store many: (id, destination, packed, delay_ms, life_ms) each.

        An item that was not stored has its error in its place (`QueueFull`, for one). `items`
        is read while the first of them are stored.
        """
        sizes: list[int] = []

        def calls() -> Iterator[dict[str, Any]]:
            for step in pages(items, ENQUEUE_STEP):
                sizes.append(len(step))
                yield self._enqueue_call(step)

        answers = self.scripts.run_many("enqueue", calls())
        results = map(replies.results, answers, sizes)
        return list(chain.from_iterable(results))

    def _enqueue_call(self, items: Sequence[Enqueued]) -> dict[str, Any]:
        return {"items": list(chain.from_iterable(items))}

    # Dispatching

    def look(self) -> Look:
        """See what is ready, counted up to one batch."""
        now, paused, ready, oldest, soon, queued, processing, lost = self.scripts.run("look", {})
        return Look(
            now_ms=now,
            paused=bool(paused),
            ready=ready,
            oldest_due_ms=replies.time_ms(oldest),
            next_ready_ms=replies.time_ms(soon),
            queued=queued,
            processing=processing,
            trigger_lost=bool(lost),
        )

    def arm(self, wait_ms: int) -> bool:
        """Ask for a check in `wait_ms`; True: the caller sends it, nobody else has."""
        return bool(self.scripts.run("arm", {"wait": wait_ms}))

    def lock(self, owner: str) -> int:
        """Take the dispatch lock; the fence number that proves it, or 0."""
        return int(self.scripts.run("lock", {"owner": owner}))

    def unlock(self, owner: str, fence: int) -> Unlocked:
        """Give the dispatch lock back, if it is still the owner's."""
        return Unlocked(self.scripts.run("unlock", {"owner": owner, "fence": fence}))

    def claim(self, owner: str, fence: int, *, nonce: str | None = None, taken: int = 0) -> Batch:
        """Move a step of a batch into PROCESSING; the lock is checked inside.

        `taken`: how many the earlier steps have claimed. While a step comes back with
        `CLAIM_STEP` callbacks and the batch is not full, another one follows.
        """
        left = self.settings.batch_size - taken
        answer = self.scripts.run(
            "claim",
            {
                "owner": owner,
                "fence": fence,
                "nonce": nonce or secrets.token_hex(16),
                "most": min(CLAIM_STEP, left),
                "is_first": int(not taken),
                "has_more": int(left > CLAIM_STEP),
            },
        )
        return replies.batch(answer)

    def demand(self) -> Demand:
        """See how much is wanted of the stagger."""
        ready, accepted, rate, tried, failing, *unproven = self.scripts.run("demand", {})
        before = None if rate < 0 else rate / 1000
        return Demand(ready, accepted / 10, before, tried, failing, *unproven)

    def set_stagger(self, stagger: Stagger) -> bool:
        """Set the stagger that was decided; True: it changed."""
        call = {
            "rate": round(stagger.rate_per_s * 1000),
            "stagger_us": us(stagger.interval_s),
            "why": stagger.why.value,
        }
        return bool(self.scripts.run("set_stagger", call))

    # Sending

    def begin(
        self, id: str, token: str, *, nonce: str | None = None, has_place: bool = True
    ) -> Gate:
        """Ask the gate whether this claim's attempt may go now.

        `has_place`: the caller keeps a place for a destination that has not answered lately.
        """
        answer = self.scripts.run(
            "begin",
            {
                "id": id,
                "token": token,
                "nonce": nonce or secrets.token_hex(8),
                "missed": MISSED_MS,
                "has_place": int(has_place),
            },
        )
        return replies.gate(answer)

    def settle(
        self,
        id: str,
        token: str,
        attempt: int,
        outcome: Outcome,
        *,
        reason: Reason | None,
        feedback: Feedback,
        entry: str,
        delay_ms: int = 0,
        park: bool = False,
        throttled: bool = False,
        duration_ms: int = 0,
        detail: str = "",
        callback_url: str = "",
    ) -> Settlement:
        """End a begun attempt; the callback and its destination change in one step."""
        s = self.settings
        adapts = s.adaptive and s.destination_interval > 0
        answer = self.scripts.run(
            "settle",
            {
                "id": id,
                "token": token,
                "attempt": attempt,
                "outcome": outcome.value,
                "reason": reason.value if reason else "",
                "delay": delay_ms,
                "park": int(park),
                "throttled": int(throttled),
                "entry": entry,
                "detail": detail,
                "effect": feedback.effect.value,
                "transport": int(feedback.transport),
                "duration": duration_ms,
                "hold": feedback.hold_ms,
                "factor": feedback.factor if adapts else 1000,
                "gone_url": digest(callback_url) if feedback.gone else "",
            },
        )
        return replies.settlement(*answer)

    def withhold(self, id: str, token: str, attempt: int, *, detail: str) -> Withheld:
        """Give a begun attempt back for want of a secret; it has not taken place."""
        call = {"id": id, "token": token, "attempt": attempt, "detail": detail}
        code, arm, wait = self.scripts.run("withhold", call)
        return Withheld(Settled(code), replies.time_ms(arm), wait)

    def release(
        self, id: str, token: str, due_ms: int, *, why: LaterWhy = LaterWhy.PACE
    ) -> Released:
        """Give a claimed callback back to its lane; the token may be stale."""
        done, arm = self.scripts.run(
            "release",
            {
                "id": id,
                "token": token,
                "due": due_ms,
                "place": _KEPT_PLACE.get(why, 1),
                "full": FULL_HOLD_MS if why is LaterWhy.FULL else 0,
            },
        )
        return Released(bool(done), replies.time_ms(arm))

    # Keeping promises

    def wake(self, limit: int, *, offset: int = 0, repeats: int) -> Late:
        """Name claimed callbacks past their slot whose message may be lost.

        Reads `limit` of them from `offset` on; `repeats` of those that have been named before
        are named again.
        """
        call = {"offset": offset, "limit": limit, "repeats": repeats}
        read, repeated, *words = self.scripts.run("wake", call)
        return Late(read, repeated, tuple(replies.pairs(words)))

    def reclaim(self, limit: int, *, chance: float) -> Recovered:
        """Take back what is past its lease; `chance` in [0, 1) spreads what had crashed."""
        spread_min, spread_max = CRASH_SPREAD_MS
        call = {
            "limit": limit,
            "spread_min": spread_min,
            "spread_max": spread_max,
            "chance": chance,
            "latest": self.clock.latest_ms(),
        }
        return Recovered(*self.scripts.run("reclaim", call))

    def expire(self, limit: int) -> int:
        """End what is past its age; how many."""
        call = {"limit": limit, "latest": self.clock.latest_ms()}
        return int(self.scripts.run("expire", call))

    def trim(
        self, limit: int, *, sent_max: int | None = None, dead_max: int | None = None
    ) -> Trimmed:
        """Forget records past their time, and the oldest beyond `sent_max` and `dead_max`.

        `limit` of each kind at most, of dead letters `DEAD_STEP`.
        """
        s = self.settings
        call = {
            "limit": limit,
            "dead_limit": min(limit, DEAD_STEP),
            "sent_max": s.sent_max if sent_max is None else sent_max,
            "dead_max": -1 if dead_max is None else dead_max,
            "latest": self.clock.latest_ms(),
        }
        return Trimmed(*self.scripts.run("trim", call))

    def deaths(self, limit: int) -> tuple[int, list[tuple[str, str]]]:
        """Name (id, reason) of callbacks that died since `told`, and up to when that is."""
        until, *words = self.scripts.run("deaths", {"limit": limit})
        return int(until), replies.pairs(words)

    def notified(self, until_ms: int) -> None:
        """Remember that deaths up to then have been told of."""
        self.scripts.run("notified", {"told_until": until_ms})

    def tick(
        self, ticker: str, interval_ms: int, *, known: str = "", threads: int = 0, places: int = 0
    ) -> Tick:
        """Be the one ticker of this interval.

        `known`: the epoch that it remembers. `threads`: the threads or greenlets of this
        process, of which destinations that have not answered lately may take `places`. Each time
        Redis' clock is looked at: where it has jumped, what ends by age is held first.
        """
        call = {
            "ticker": ticker,
            "tick_interval": max(1, interval_ms),
            "known": known,
            "threads": threads,
            "places": places,
        }
        asked_s = self.clock.elapsed()
        elected, now, lost, epoch, busy = self.scripts.run("tick", call)
        look = Seen(now, asked_s, self.clock.elapsed())
        jump_ms = self.clock.jump_ms(look)
        if jump_ms and not self.hold(jump_ms, since_ms=self.clock.seen_ms):
            jump_ms = 0
        self.clock.keep(look)
        return Tick(bool(elected), now, bool(lost), replies.text(epoch), bool(busy), jump_ms)

    def hold(self, jump_ms: int, *, since_ms: int) -> bool:
        """Let nothing end for its age, for Redis' clock has jumped; False: that is known.

        `since_ms`: Redis' time at the look before. A jump back ends what a jump ahead began.
        """
        call = {"jump": jump_ms, "since": since_ms}
        news = bool(self.scripts.run("hold", call))
        # Whoever knows of the jump takes back what is past its lease, so all see to it before.
        while self.renew(RENEW_STEP) == RENEW_STEP:
            pass
        return news

    def renew(self, limit: int) -> int:
        """Give requests begun before a jump of Redis' clock their lease anew; how many."""
        return int(self.scripts.run("renew", {"limit": limit}))

    def shorten(self, limit: int, *, offset: int, unproven: bool) -> tuple[int, int]:
        """Bring destinations forward whose slot is of a longer interval; (read, moved).

        `unproven`: of those that have not answered lately, or else of the others.
        """
        call = {"offset": offset, "limit": limit, "unproven": int(unproven)}
        read, moved = self.scripts.run("shorten", call)
        return read, moved

    def unhold(self) -> bool:
        """Let callbacks end by their age again; False: they do."""
        return bool(self.scripts.run("unhold", {}))

    def scheduled(self) -> None:
        """Remember that the scheduler was heard of just now; called once, without repeats."""
        self.scripts.run("scheduled", {}, tries=1)

    def admit(self, *, full: bool) -> bool:
        """Let enqueues in, or refuse them for want of memory; True: that is a change."""
        return bool(self.scripts.run("admit", {"full": int(full)}))

    def repair(self, id: str, lane: str = "") -> str:
        """Put a callback into the one structure where it belongs; what it is now."""
        call = {"id": id, "hint": lane}
        return replies.text(self.scripts.run("repair", call))

    def repair_ring(self, destination: str) -> None:
        """Give a destination its place in the ring anew."""
        self.scripts.run("repair_ring", {"destination": destination})

    def rebalance(self) -> int:
        """Count what is missing as `lost` (or as `found`, below 0), so that the totals balance."""
        return int(self.scripts.run("rebalance", {}, tries=1))

    # Steering

    def cancel(self, id: str) -> Cancelled:
        """Make sure that a callback is not sent, or not again."""
        return Cancelled(self.scripts.run("cancel", {"id": id}))

    def pause(self, destination: str | None = None) -> int:
        """Stop all, or one destination; how many requests are still in flight."""
        return int(self.scripts.run("pause", {"destination": destination or ""}))

    def withdraw(self, destinations: Sequence[str]) -> int:
        """Take paused destinations out of turn; how many requests to them are in flight."""
        return int(self.scripts.run("withdraw", {"names": list(destinations)}))

    def resume(self, destination: str | None = None, *, nonce: str | None = None) -> bool:
        """Let all go on, or one destination, which then starts afresh; False: nothing to do."""
        return bool(
            self._run_once("resume", self._resume_call(destination or "", itself=True), nonce)
        )

    def call_back(self, lanes: Sequence[str]) -> bool:
        """Start lanes whose host was resumed; False: none was paused, on hold or broken itself."""
        calls = [self._once(None) | self._resume_call(lane, itself=False) for lane in lanes]
        answers = self.scripts.run_many("resume", calls)
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return any(answers)

    def _resume_call(self, destination: str, *, itself: bool) -> dict[str, Any]:
        return {"destination": destination, "itself": int(itself)}

    def forgive(self, callback_url: str, *, nonce: str | None = None) -> bool:
        """Lift the mark that a URL is gone; False: there was none."""
        return bool(self._run_once("forgive", {"url": digest(callback_url)}, nonce))

    def replay(self, ids: Sequence[str], *, nonce: str | None = None) -> int:
        """Put dead letters back into the queue; how many of `ids` were dead letters."""
        return self._run_in_steps("replay", ids, nonce)

    def purge(self, ids: Sequence[str], *, nonce: str | None = None) -> int:
        """Forget dead letters; how many of `ids` were dead letters."""
        return self._run_in_steps("purge", ids, nonce)

    def _run_once(self, verb: str, call: Mapping[str, Any], nonce: str | None) -> int:
        """Call what people wait for; a repeat with the same nonce gets the first answer."""
        return int(self.scripts.run(verb, {**self._once(nonce), **call}))

    def _once(self, nonce: str | None) -> dict[str, Any]:
        return {"nonce": nonce or secrets.token_hex(16)}

    def _run_in_steps(self, verb: str, ids: Sequence[str], nonce: str | None) -> int:
        """Do the same with many ids, a few in each script, and give the sum."""
        nonce = nonce or secrets.token_hex(16)
        return sum(
            self._run_once(verb, {"ids": step}, f"{nonce}.{n}")
            for n, step in enumerate(pages(ids, STEER_STEP))
        )
