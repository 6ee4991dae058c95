"""QUEUE and PROCESSING in Redis: one method for each Lua verb.

The methods turn settings into milliseconds, and returned codes into values; an unknown code
raises. All verbs use the server's clock.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, Protocol

import redis
from redis import Redis

from callbacks.batcher import replies
from callbacks.batcher.clock import HELD_MS, RedisClock, Seen
from callbacks.batcher.durability import wait_for
from callbacks.batcher.errors import NotDurable
from callbacks.batcher.history import MINUTES, TENS, Sample, entry_of
from callbacks.batcher.journal import Act, read_act
from callbacks.batcher.keys import Keys, shard_tags
from callbacks.batcher.paging import pages
from callbacks.batcher.scripts import VERBS, Scripts, Verb, raise_first
from callbacks.batcher.times import Times
from callbacks.model import (
    Batch,
    Cancelled,
    Demand,
    Feedback,
    Gate,
    Item,
    Late,
    LaterWhy,
    Look,
    Outcome,
    Reason,
    Recovered,
    Released,
    Settled,
    Settlement,
    Slots,
    Stored,
    Tick,
    Trimmed,
    Unlocked,
    Withheld,
)
from callbacks.policy.buckets import field_of_attempt
from callbacks.policy.stagger import Stagger
from callbacks.request.urls import digest
from callbacks.units import ms, us

if TYPE_CHECKING:
    from callbacks.settings import Settings

#: How far ahead slots are given out. It keeps the number of claimed callbacks small.
HORIZON_MS: Final = 2_000
#: How long before its next slot a destination is claimed from, besides `min_interval`: the next
#: batch and its messages must arrive in time.
WINDOW_MS: Final = 300
#: The longest that a thread sleeps until its reserved instant.
MAX_WAIT_MS: Final = 250
#: How long past its slot a claimed callback that has not begun counts as late.
LATE_MS: Final = 1_000
#: How long a full destination is not claimed from, unless a request ends before.
FULL_HOLD_MS: Final = 1_000
#: The longest time between two batches while callbacks keep coming.
FLOW_INTERVAL_MS: Final = 500
#: A sender that misses its instant by this much needs a new one.
MISSED_MS: Final = 10
#: Much longer than a claim and its messages take, but not long after a dispatcher's death. One
#: that stalls for longer loses the lock, and its next claim, which checks it, gets nothing.
LOCK_TTL_MS: Final = 2_000
MAX_CRASHES: Final = 3
#: How long a destination is held when no secret was found: the first time, and at most.
SECRET_HOLD_MS: Final = (1_000, 60_000)
#: Callbacks enqueued per script call: half a millisecond.
ENQUEUE_STEP: Final = 50
#: Callbacks claimed per script call: 2 ms if each has another destination.
CLAIM_STEP: Final = 50
#: Dead letters trimmed per script call: 2 ms at 250 KB each.
DEAD_STEP: Final = 50
#: Dead letters replayed or purged per script call: a millisecond or two.
STEER_STEP: Final = 50
#: Leases renewed per script call: 2 ms.
RENEW_STEP: Final = 100
#: How long the answer to an operator's command is kept, in case its reply was lost.
ANSWER_MS: Final = 60_000
CRASH_SPREAD_MS: Final = (5_000, 30_000)
#: For how long a shard's word counts of what it has to send.
BID_MS: Final = 2_000
#: The answers of `reserve`: reserved for that shard, and the id's own shard has the callback.
RESERVED, HERE = -1, -2
#: A reservation so young is not deleted: its id is just being used again.
UNRESERVE_MS: Final = 5_000
#: A reservation without a callback is given up when it is as old as this: the call that made it was
#: interrupted.
TRANSFER_MS: Final = 60_000
#: Added to the lease of a begun attempt: more than clocks and waits can differ.
_BEGUN_BLUR_MS: Final = 1_000
#: The place that a released callback keeps: 0 none, 1 (otherwise) that in its lane, 2 its
#: destination's too.
_KEPT_PLACE: Final = {LaterWhy.SUSPECT: 0, LaterWhy.UNPROVEN: 2}
#: A process's report of its places is valid for this many check intervals, or the next constant.
WORD_INTERVALS: Final = 4
WORD_MIN_MS: Final = 10_000


def _constants(s: Settings, shard: int | None) -> dict[str, int]:
    """Arguments of the verbs that follow from the settings, by their names in the headers.

    One of several shards is no judge of the stagger, see `pacer`, and has its part of what is
    limited over all.
    """
    shards = 1 if shard is None else s.shards
    longest_s = s.destination_interval_max if s.adaptive else s.destination_interval
    secret_hold_min, secret_hold_max = SECRET_HOLD_MS
    return {
        # Batches
        "batch_size": s.batch_size,
        "max_queued": -(-s.max_queued // shards),
        "own_shard": -1 if shard is None else shard,
        "max_delay": ms(s.max_delay),
        "min_interval": ms(s.min_interval),
        "flow_interval": max(FLOW_INTERVAL_MS, ms(s.min_interval)),
        "look_ahead": max(ms(s.check_interval), ms(s.min_interval)),
        "window": min(HORIZON_MS, ms(s.min_interval) + WINDOW_MS),
        "horizon": HORIZON_MS,
        "lock_ttl": LOCK_TTL_MS,
        # Paces
        "stagger": ms(s.send_interval) if shards == 1 else 0,
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
        "refused_hold": s.refused_hold,
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


class Pacer(Protocol):
    """The stagger over all shards, see `pacer`."""

    def demand(self, one: Batcher, want: int) -> Demand: ...

    def set_stagger(self, stagger: Stagger) -> bool: ...

    def slots(self, one: Batcher) -> Slots: ...

    def hand_back(self, one: Batcher, unused: int) -> None: ...

    def take(self, one: Batcher, wait_ms: int, *, must: bool = False) -> tuple[int, bool]: ...


def _told(demand: Demand) -> str:
    """One shard's demand as it is stored, see `bid.lua`."""
    numbers = (
        demand.ready,
        round(10 * demand.accepted_per_s),
        demand.tried,
        demand.failing,
        demand.unproven,
        demand.unproven_waiting,
        demand.unproven_per_s,
    )
    return " ".join(map(str, numbers))


def _summed(rate_per_s: float | None, words: Iterable[str]) -> Demand:
    """The demand of several shards together."""
    sums = [0] * 7
    for word in words:
        sums = [total + int(own) for total, own in zip(sums, word.split(), strict=True)]
    ready, accepted, *others = sums
    return Demand(ready, accepted / 10, rate_per_s, *others)


def _nothing(ids: Sequence[str]) -> None:
    """Do nothing about forgotten callbacks: the only shard has no reservations."""


class Batcher:
    """The verbs, for one shard of one namespace; `shards.Shards` brings several together.

    Every method may raise redis-py's errors. Repeating one with the same arguments changes
    nothing.
    """

    def __init__(
        self,
        client: Redis,
        settings: Settings,
        *,
        verbs: Mapping[str, Verb] = VERBS,
        shard: int | None = None,
        pacer: Pacer | None = None,
        times: Times | None = None,
        forgotten: Callable[[Sequence[str]], object] = _nothing,
        follow: Callable[[], object] = lambda: None,
    ) -> None:
        """Make the verbs of one of several shards; `shard` None: of the only one, or of none.

        `pacer`: that of all shards, unless this one keeps the stagger alone; `forgotten`: called
        with the ids of callbacks whose records were trimmed, where there are several; `follow`:
        called before a claim, has a shard paused that has missed a pause of all.
        """
        self._forgotten = forgotten
        self.follow = follow
        self.settings = settings
        self.shard, self.pacer = shard, pacer
        #: How many shards this one is one of.
        self.shards = 1 if shard is None else settings.shards
        tag = shard_tags(settings.namespace, self.shards)[shard or 0]
        constants = _constants(settings, shard)
        self.sent_max = -(-settings.sent_max // self.shards)
        self.scripts = Scripts(
            client, Keys(tag), constants=constants, verbs=verbs, wait=wait_for(settings)
        )
        self.clock = RedisClock()
        self.times = times or Times()

    # Enqueueing

    def enqueue(self, item: Item) -> Stored:
        """Store one callback; when this returns, it is accepted.

        Raises `QueueFull` if there is no room; nothing is stored then. Raises `NotDurable` if it
        is stored, but not as `CALLBACKS_WAIT_FOR` wants it.
        """
        try:
            call = {"items": item}
            return replies.stored(*self.scripts.run("enqueue", call, tries=1, durable=True))
        except NotDurable as error:
            replies.stored(*error.reply)  # raises if nothing was stored
            raise
        except redis.OutOfMemoryError as error:
            raise replies.no_room() from error

    def enqueue_many(
        self, items: Iterable[Item], *, step_size: int = ENQUEUE_STEP
    ) -> list[Stored | Exception]:
        """Store many callbacks, `step_size` with each call of the script.

        For an item that was not stored, the list has its error (e.g. `QueueFull`); an error of
        the script is that of all in its step. `items` is consumed while the first are stored.
        """
        sizes: list[int] = []

        def calls() -> Iterator[dict[str, Any]]:
            for step in pages(items, step_size):
                sizes.append(len(step))
                yield {"items": chain.from_iterable(step)}

        answers = self.scripts.run_many("enqueue", calls(), durable=True)
        results = map(replies.results, answers, sizes)
        return list(chain.from_iterable(results))

    def reserve(self, items: Sequence[tuple[str, int]]) -> list[int]:
        """Reserve ids of this shard for the shards of their destinations, as (id, shard).

        For each: `RESERVED`, `HERE`, or the number of the other shard that it is reserved for.
        """
        call = {"items": chain.from_iterable(items)}
        return [int(code) for code in self.scripts.run("reserve", call)]

    def unreserve(self, ids: Sequence[str], shard: int) -> int:
        """Delete reservations of callbacks that another shard has forgotten; how many."""
        call = {"ids": list(ids), "shard": shard, "age": UNRESERVE_MS}
        return int(self.scripts.run("unreserve", call))

    def transfer(self, id: str, before: int, after: int) -> bool:
        """Reserve an id for another shard, as no callback was found in the one before."""
        call = {"id": id, "before": before, "after": after, "age": TRANSFER_MS}
        return bool(self.scripts.run("transfer", call, tries=1))

    # Dispatching

    def look(self) -> Look:
        """Read what is waiting; ready callbacks are counted up to one batch."""
        return replies.look(self.scripts.run("look", {}))

    def load(self) -> tuple[int, int]:
        """Read what this shard could use: places for unproven destinations, and threads."""
        unproven, threads = self.scripts.run("load", {})
        return unproven, threads

    def arm(self, wait_ms: int) -> bool:
        """Ask for a check in `wait_ms`; True if the caller has to send it."""
        return bool(self.scripts.run("arm", {"wait": wait_ms}))

    def lock(self, owner: str) -> int:
        """Take the dispatch lock; returns its fence number, or 0 if another has it."""
        return int(self.scripts.run("lock", {"owner": owner}))

    def unlock(self, owner: str, fence: int) -> Unlocked:
        """Release the dispatch lock, if the owner still has it."""
        return Unlocked(self.scripts.run("unlock", {"owner": owner, "fence": fence}))

    def claim(
        self,
        owner: str,
        fence: int,
        *,
        nonce: str | None = None,
        taken: int = 0,
        slots: Slots | None = None,
    ) -> Batch:
        """Move one step of a batch into PROCESSING; checks the lock.

        `taken`: how many the earlier steps have claimed; `slots`: those of the whole batch, if it
        does not keep the stagger by itself. While a step returns `CLAIM_STEP`
        callbacks and the batch is not full, another one follows.
        """
        left = self.settings.batch_size - taken
        count, every_ms = -1, 0
        if slots:
            count = max(0, slots.count - taken)
            every_ms = slots.every_ms if count else slots.again_ms
        answer = self.scripts.run(
            "claim",
            {
                "owner": owner,
                "fence": fence,
                "nonce": nonce or self._claim_nonce(),
                "most": min(CLAIM_STEP, left),
                "is_first": int(not taken),
                "has_more": int(left > CLAIM_STEP),
                "slots": count,
                "slot_ahead": slots.ahead_ms if slots else 0,
                "slot_every": every_ms,
            },
        )
        return replies.batch(answer)

    # The stagger over all shards: asked of the keys that belong to none, see `pacer`

    def want(self) -> int:
        """Read how many slots this shard could use within the horizon."""
        return int(self.scripts.run("want", {}))

    def bid(self, shard: int, want: int, demand: Demand) -> Demand:
        """Say what a shard has to send; returns the demand of all shards together."""
        call = {"shard": shard, "want": want, "demand": _told(demand), "bid_for": BID_MS}
        rate, *words = self.scripts.run("bid", call)
        return _summed(None if rate < 0 else rate / 1000, map(replies.text, words))

    def grant(self, shard: int, pace_ms: int) -> tuple[int, int, int, int]:
        """Give a shard its next slots: the values of `pacer.Slots`."""
        call = {"shard": shard, "pace": pace_ms, "bid_for": BID_MS}
        ahead, count, again = self.scripts.run("grant", call)
        return ahead, count, pace_ms, again

    def hand_back(self, shard: int, pace_ms: int, unused: int) -> bool:
        """Give back the last slots of a shard; False if others have got some since."""
        call = {"shard": shard, "pace": pace_ms, "unused": unused}
        return bool(self.scripts.run("hand_back", call))

    def take(
        self, wait_ms: int, pace_ms: int, *, must: bool = False, adapts: bool | None = None
    ) -> tuple[int, bool]:
        """Take an instant for a send: in how many ms, and whether it is not too far ahead."""
        adapts = self.settings.adaptive if adapts is None else adapts
        call = {"wait": wait_ms, "pace": pace_ms, "must": int(must), "adapts": int(adapts)}
        wait, taken = self.scripts.run("take", call)
        return wait, bool(taken)

    def _claim_nonce(self) -> str:
        """A random word for the tokens of a claim; it names the shard where there are several."""
        word = secrets.token_hex(16)
        return word if self.shard is None else f"{self.shard}-{word}"

    def demand(self) -> Demand:
        """Read what the stagger is decided by."""
        ready, accepted, rate, tried, failing, *unproven = self.scripts.run("demand", {})
        before = None if rate < 0 else rate / 1000
        return Demand(ready, accepted / 10, before, tried, failing, *unproven)

    def set_stagger(self, stagger: Stagger) -> bool:
        """Store the stagger that was decided; True if it changed."""
        call = {
            "rate": round(stagger.rate_per_s * 1000),
            "stagger_us": us(stagger.interval_s),
            "why": stagger.why.value,
        }
        return bool(self.scripts.run("set_stagger", call))

    # Sending

    def begin(
        self,
        id: str,
        token: str,
        *,
        nonce: str | None = None,
        has_place: bool = True,
        ahead_ms: int = -1,
    ) -> Gate:
        """Ask the gate whether this claim's attempt may be sent now.

        `has_place`: the caller holds a place for an unproven destination. `ahead_ms`: the attempt
        has begun with this nonce, and the stagger over all shards puts it off until then.
        """
        answer = self.scripts.run(
            "begin",
            {
                "id": id,
                "token": token,
                "nonce": nonce or secrets.token_hex(8),
                "missed": MISSED_MS,
                "has_place": int(has_place),
                "ahead": ahead_ms,
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
        status: int | None = None,
        duration_ms: int = 0,
        delivery_ms: int | None = None,
        detail: str = "",
        callback_url: str = "",
    ) -> Settlement:
        """End a begun attempt; changes the callback and its destination atomically.

        `delivery_ms`: from enqueue to 2xx; None if it was not sent, or that is unknown.
        """
        s = self.settings
        adapts = s.adaptive and s.destination_interval > 0
        why = reason.value if reason else ""
        answer = self.scripts.run(
            "settle",
            {
                "id": id,
                "token": token,
                "attempt": attempt,
                "outcome": outcome.value,
                "reason": why,
                "delay": delay_ms,
                "park": int(park),
                "throttled": int(throttled),
                "entry": entry,
                "detail": detail,
                "effect": feedback.effect.value,
                "transport": int(feedback.transport),
                "status": status or 0,
                "duration": duration_ms,
                "counted": field_of_attempt(outcome, why, status, duration_ms, delivery_ms),
                "hold": feedback.hold_ms,
                "factor": feedback.factor if adapts else 1000,
                "gone_url": digest(callback_url) if feedback.gone else "",
            },
        )
        settlement = replies.settlement(*answer)
        if settlement.settled is not Settled.STALE:
            self.times.add(duration_ms, delivery_ms or 0)
        return settlement

    def withhold(self, id: str, token: str, attempt: int, *, detail: str) -> Withheld:
        """Take back a begun attempt because no secret was found; it does not count."""
        call = {"id": id, "token": token, "attempt": attempt, "detail": detail}
        code, arm, wait = self.scripts.run("withhold", call)
        return Withheld(Settled(code), replies.time_ms(arm), wait)

    def release(
        self, id: str, token: str, due_ms: int, *, why: LaterWhy = LaterWhy.PACE
    ) -> Released:
        """Return a claimed callback to its lane; the token may be stale."""
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

    # Recovery and upkeep

    def wake(self, limit: int, *, offset: int = 0, repeats: int) -> Late:
        """List claimed callbacks past their slot, whose messages may be lost.

        Reads `limit` of them from `offset` on; of those listed before, at most `repeats` are
        listed again.
        """
        call = {"offset": offset, "limit": limit, "repeats": repeats}
        read, repeated, *words = self.scripts.run("wake", call)
        return Late(read, repeated, tuple(replies.pairs(words)))

    def reclaim(self, limit: int, *, chance: float) -> Recovered:
        """Take back callbacks past their lease; `chance`, in [0, 1), spreads crashed ones."""
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
        """End callbacks past their end of life; returns how many."""
        call = {"limit": limit, "latest": self.clock.latest_ms()}
        return int(self.scripts.run("expire", call))

    def trim(
        self, limit: int, *, sent_max: int | None = None, dead_max: int | None = None
    ) -> Trimmed:
        """Delete records past their retention, and the oldest beyond `sent_max` and `dead_max`.

        At most `limit` of each kind, and of dead letters `DEAD_STEP`.
        """
        call = {
            "limit": limit,
            "dead_limit": min(limit, DEAD_STEP),
            "sent_max": self.sent_max if sent_max is None else sent_max,
            "dead_max": -1 if dead_max is None else dead_max,
            "latest": self.clock.latest_ms(),
        }
        sent, dead, destinations, *ids = self.scripts.run("trim", call)
        if ids:
            self._forgotten([replies.text(id) for id in ids])
        return Trimmed(sent, dead, destinations)

    def deaths(self, limit: int) -> tuple[int, list[tuple[str, str]]]:
        """Return a time, and (id, reason) of callbacks that died since `told` and up to it."""
        until, *words = self.scripts.run("deaths", {"limit": limit})
        return int(until), replies.pairs(words)

    def notified(self, until_ms: int) -> None:
        """Remember that deaths up to `until_ms` have been reported."""
        self.scripts.run("notified", {"told_until": until_ms})

    def tick(
        self,
        ticker: str,
        interval_ms: int,
        *,
        known: str = "",
        threads: int = 0,
        places: int = 0,
        who: str = "",
        running_ms: int = 0,
    ) -> Tick:
        """Try to become the ticker of this interval.

        `known`: the epoch this process remembers. `threads`: the threads or greenlets of this
        process, of which unproven destinations may take `places`; `who`: what else is to be known
        of it, see `inspector.Worker`. Also stores the times of its attempts, and reads Redis'
        clock: if it has jumped, expiry is held before anything else.
        """
        call = {
            "ticker": ticker,
            "tick_interval": max(1, interval_ms),
            "known": known,
            "threads": threads,
            "places": places,
            "running": running_ms,
            "who": who,
        }
        asked_s = self.clock.elapsed()
        durations, delays = self.times.take()
        call |= {"durations": durations, "delays": delays}
        try:
            elected, now, lost, epoch, busy, threads, places, first = self.scripts.run("tick", call)
        except redis.RedisError:
            self.times.add(durations, delays)
            raise
        look = Seen(now, asked_s, self.clock.elapsed())
        jump_ms = self.clock.jump_ms(look)
        if jump_ms and not self.hold(jump_ms, since_ms=self.clock.seen_ms):
            jump_ms = 0
        self.clock.keep(look)
        return Tick(
            elected=bool(elected),
            now_ms=now,
            lost=bool(lost),
            epoch=replies.text(epoch),
            busy=bool(busy),
            jump_ms=jump_ms,
            threads=threads,
            places=places,
            first_of_minute=bool(first),
        )

    def sample(self, sample: Sample, of_ten: Sample) -> None:
        """Keep a sample in the history; `of_ten`: with the greatest sizes of its ten minutes."""
        call = {
            "minute": MINUTES.place(sample.at_ms),
            "of_minute": entry_of(sample),
            "ten": TENS.place(sample.at_ms),
            "of_ten": entry_of(of_ten),
        }
        self.scripts.run("sample", call)

    def hold(self, jump_ms: int, *, since_ms: int) -> bool:
        """Let nothing expire, because Redis' clock has jumped; False if that was known.

        `since_ms`: Redis' time at the last reading. A jump back ends the hold of a jump ahead.
        """
        call = {"jump": jump_ms, "since": since_ms}
        news = bool(self.scripts.run("hold", call))
        # A process that knows of the jump reclaims expired leases again, so renew them first.
        while self.renew(RENEW_STEP) == RENEW_STEP:
            pass
        return news

    def renew(self, limit: int) -> int:
        """Renew leases of requests begun before a jump of Redis' clock; returns how many."""
        return int(self.scripts.run("renew", {"limit": limit}))

    def shorten(self, limit: int, *, offset: int, unproven: bool) -> tuple[int, int]:
        """Bring destinations forward whose slot stems from a longer interval; (read, moved).

        `unproven`: whether to look at unproven destinations or at the others.
        """
        call = {"offset": offset, "limit": limit, "unproven": int(unproven)}
        read, moved = self.scripts.run("shorten", call)
        return read, moved

    def note_holds(self, destinations: Sequence[str]) -> int:
        """Bring `held` up to date for some destinations; returns how many of them are held."""
        return int(self.scripts.run("note_holds", {"names": list(destinations)}))

    def unhold(self) -> bool:
        """Let callbacks expire again; False if they already do."""
        return bool(self.scripts.run("unhold", {}))

    def scheduled(self) -> None:
        """Remember that the scheduler was seen just now; tried only once."""
        self.scripts.run("scheduled", {}, tries=1)

    def turn(self, what: str, every_ms: int) -> bool:
        """Tell whether it is this process's turn at what one of all does once in a while."""
        return bool(self.scripts.run("turn", {"what": what, "every": every_ms}, tries=1))

    def admit(self, *, full: bool) -> bool:
        """Accept enqueues, or refuse them because memory is full; True if that is a change."""
        return bool(self.scripts.run("admit", {"full": int(full)}))

    def repair(self, id: str, lane: str = "") -> str:
        """Put a callback into the one structure where it belongs; returns its new state."""
        call = {"id": id, "hint": lane}
        return replies.text(self.scripts.run("repair", call))

    def repair_ring(self, destination: str) -> None:
        """Rebuild a destination's place in the ring."""
        self.scripts.run("repair_ring", {"destination": destination})

    def rebalance(self) -> int:
        """Count what is missing as `lost`, or as `found` below 0, so that the totals balance."""
        return int(self.scripts.run("rebalance", {}, tries=1))

    # Steering

    def agree(self, shards: int, *, keep: bool) -> int:
        """Return how many shards there are: as many as the first one said who was to `keep` it."""
        return int(self.scripts.run("agree", {"shards": shards, "keep": int(keep)}))

    def cancel(self, id: str, *, entry: str = "") -> Cancelled:
        """Make sure that a callback is not sent, or not again.

        Here and below, `entry` is for the journal, if a person does this; see `journal.entry_of`.
        """
        return Cancelled(self.scripts.run("cancel", {"id": id, "entry": entry}))

    def pause(self, destination: str | None = None, *, entry: str = "") -> int:
        """Pause all, or one destination; returns how many requests are still in flight."""
        call = {"destination": destination or "", "entry": entry}
        return int(self.scripts.run("pause", call))

    def withdraw(self, destinations: Sequence[str]) -> int:
        """Take paused destinations off the ring's turns; returns their requests in flight."""
        return int(self.scripts.run("withdraw", {"names": list(destinations)}))

    def resume(
        self, destination: str | None = None, *, nonce: str | None = None, entry: str = ""
    ) -> bool:
        """Resume all, or one destination, which then starts afresh; False if nothing to do."""
        call = self._resume_call(destination or "", itself=True, entry=entry)
        return bool(self._run_once("resume", call, nonce))

    def call_back(self, lanes: Sequence[str]) -> bool:
        """Resume lanes of a resumed host; False if none was itself paused, on hold or broken."""
        calls = [self._once(None) | self._resume_call(lane, itself=False) for lane in lanes]
        return any(raise_first(self.scripts.run_many("resume", calls)))

    def _resume_call(self, destination: str, *, itself: bool, entry: str = "") -> dict[str, Any]:
        return {"destination": destination, "itself": int(itself), "entry": entry}

    def forgive(self, callback_url: str, *, nonce: str | None = None, entry: str = "") -> bool:
        """Remove the 410 mark of a URL; False if it had none."""
        call = {"url": digest(callback_url), "entry": entry}
        return bool(self._run_once("forgive", call, nonce))

    def journal(self, entry: str) -> None:
        """Write down what a person did, where the act itself took several calls."""
        self.scripts.run("journal", {"entry": entry}, tries=1)

    def report(self, limit: int) -> list[Act]:
        """Return what people did since the last report, oldest first."""
        return [read_act(raw) for raw in self.scripts.run("report", {"limit": limit})]

    def replay(self, ids: Sequence[str], *, nonce: str | None = None) -> int:
        """Put dead letters back into the queue; returns how many of `ids` were dead letters."""
        return self._run_in_steps("replay", ids, nonce)

    def purge(self, ids: Sequence[str], *, nonce: str | None = None) -> int:
        """Delete dead letters; returns how many of `ids` were dead letters."""
        return self._run_in_steps("purge", ids, nonce)

    def _run_once(self, verb: str, call: Mapping[str, Any], nonce: str | None) -> int:
        """Call an operator's verb; repeating it with the same nonce returns the first answer."""
        return int(self.scripts.run(verb, {**self._once(nonce), **call}))

    def _once(self, nonce: str | None) -> dict[str, Any]:
        return {"nonce": nonce or secrets.token_hex(16)}

    def _run_in_steps(self, verb: str, ids: Sequence[str], nonce: str | None) -> int:
        """Call a verb for many ids, some at a time, and return the sum."""
        nonce = nonce or secrets.token_hex(16)
        return sum(
            self._run_once(verb, {"ids": step}, f"{nonce}.{n}")
            for n, step in enumerate(pages(ids, STEER_STEP))
        )
