"""What is measured in a run: arrivals at receivers, waits, places, and the books."""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Final

from callbacks.model import Outcome
from callbacks.policy.retry import Decision
from scripts.simulation.events import Loop
from scripts.simulation.records import NEVER, Callback

if TYPE_CHECKING:
    from scripts.simulation.shard import Shard
    from scripts.simulation.workers import Workers

#: Longer gaps of a destination tell nothing about its interval.
_LONGEST_GAP_MS: Final = 60_000
#: A well destination waits that long only if something is wrong.
LATE_MS: Final = 2_000
#: Under this name are the waits of well destinations in the shard that is told apart.
APART: Final = "apart"


class Figures:
    """Counts and times of one run. Seconds are those of the virtual clock."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.sends = array("I")
        self.gaps = array("I")
        self.shards: Counter[int] = Counter()
        #: By the name of a receiver and by second.
        self.requests: defaultdict[str, Counter[int]] = defaultdict(Counter)
        self.accepted: defaultdict[str, Counter[int]] = defaultdict(Counter)
        self.delivered: defaultdict[str, Counter[int]] = defaultdict(Counter)
        #: From enqueue to the first request, in ms, by the second of the request.
        self.waits: defaultdict[str, defaultdict[int, array[int]]] = defaultdict(
            lambda: defaultdict(lambda: array("I"))
        )
        self.repeats = self.refused = 0
        #: By how many ms a request came before its destination's interval had passed.
        self.too_close: Counter[int] = Counter()
        self.released: Counter[str] = Counter()
        #: One sample a second: places busy, of them with unproven destinations, and all.
        self.places: list[tuple[int, int, int, int]] = []
        self.crashed_ended_at = 0
        #: A shard that is told apart, and what waits in it and how many it has sent, every 100 ms.
        self.apart: Shard | None = None
        self.apart_ms: list[tuple[int, int, int]] = []
        #: When it last made a first request to a well destination so late.
        self.late_at = 0
        #: Each request, if that is wanted: when, the numbers of its destination and callback.
        self.trace: list[tuple[int, int, int]] | None = None

    def accept(self, callback: Callback) -> None:
        """A callback was accepted."""
        self.accepted[callback.destination.receiver.name][self._loop.now // 1_000] += 1

    def sent(self, callback: Callback) -> None:
        """A request goes out, and arrives."""
        now, d = self._loop.now, callback.destination
        name, second = d.receiver.name, now // 1_000
        self.sends.append(now)
        if self.trace is not None:
            self.trace.append((now, d.number, callback.number))
        self.requests[name][second] += 1
        self.shards[d.shard.shard or 0] += 1
        if d.last_at != NEVER:
            gap = now - d.last_at
            if gap < _LONGEST_GAP_MS:
                self.gaps.append(gap)
            if now < d.allowed_at:
                self.too_close[d.allowed_at - now] += 1
        d.last_at = now
        d.allowed_at = now + callback.interval
        if callback.requests == 0:
            wait = now - callback.created
            is_apart = d.shard is self.apart and d.receiver.is_well
            self.waits[APART if is_apart else name][second].append(wait)
            if is_apart and wait > LATE_MS:
                self.late_at = now
        callback.requests += 1

    def settled(self, callback: Callback, decision: Decision, *, ours: bool) -> None:
        """An attempt has ended; `ours`: its outcome was stored."""
        if not ours or decision.outcome is not Outcome.SENT:
            return
        now = self._loop.now
        self.delivered[callback.destination.receiver.name][now // 1_000] += 1
        self.repeats += callback.requests - 1 if callback.crashes else 0
        if callback.crashes:
            self.crashed_ended_at = now

    def sample(self, workers: Workers) -> None:
        """Note how many places are taken, once a second."""
        alive = workers.alive()
        busy = sum(each.busy for each in alive)
        unproven = sum(each.unproven for each in alive)
        waiting = len(workers.ready) + sum(len(each.fetched) for each in alive)
        self.places.append((busy, unproven, sum(each.threads for each in alive), waiting))

    def look_apart(self) -> None:
        """Note how the shard that is told apart is doing."""
        if self.apart is not None:
            sent = self.shards[self.apart.shard or 0]
            self.apart_ms.append((self._loop.now, self.apart.queued, sent))


def percentile(ordered: array[int] | list[int], share: float) -> int:
    """The percentile of sorted values, nearest rank; 0 of none."""
    return ordered[round(share * (len(ordered) - 1))] if ordered else 0
