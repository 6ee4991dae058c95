"""Every verb a few times, one after another, as processes would call it."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from callbacks.batcher.inspector import find, overview, survey
from callbacks.batcher.store import DEAD_STEP, ENQUEUE_STEP, LATE_MS, Batcher
from callbacks.model import Claimed, Effect, Feedback, Go, Outcome, Reason
from callbacks.monitor.history import read_history
from callbacks.policy.stagger import Stagger, StaggerWhy
from callbacks.worker.duties import EXPIRE_PASS, LATE_PASS, PASS, TRIM_PASS, sample_once
from tests.redis.support import backdate
from tests.scale.fill import destination, items, name, put
from tests.scale.gauge import Gauge

_TIMES: Final = 5
#: Dead letters in store while some are replayed and purged.
_DYING: Final = 20_000
_DAY_MS: Final = 86_400_000
#: At most a few batches are ever claimed.
_CLAIMED: Final = 1_000


class Verbs:
    """One batcher under load."""

    def __init__(self, batcher: Batcher, gauge: Gauge, count: int, destinations: int) -> None:
        self.batcher, self.gauge = batcher, gauge
        self.count, self.destinations = count, destinations
        self.client = batcher.scripts.client

    def run(self) -> None:
        for n in range(_TIMES):
            self._take_in(n)
            self._look()
            self._steer(n)
            self._send()
        self._crowd()
        self._die()
        for n in range(_TIMES):
            self._dead_letters(n)
        self._forget()

    def _take_in(self, n: int) -> None:
        first = self.count + n * ENQUEUE_STEP
        some = list(items(range(first, first + ENQUEUE_STEP), self.destinations, life_ms=_DAY_MS))
        self.gauge.measure(f"enqueue of {ENQUEUE_STEP}", partial(self.batcher.enqueue_many, some))

    def _look(self) -> None:
        measure, scripts = self.gauge.measure, self.batcher.scripts
        measure("look", self.batcher.look)
        measure("demand", self.batcher.demand)
        measure("status", lambda: overview(scripts))
        measure("survey of 5,000", lambda: survey(scripts))
        measure("a sample", lambda: sample_once(self.batcher))
        measure("history", lambda: read_history(scripts))
        names = [destination(n) for n in range(PASS)]
        measure(f"note_holds of {PASS}", lambda: self.batcher.note_holds(names))
        measure("where", lambda: find(scripts, name(self.count // 2)))
        measure("wake", lambda: self.batcher.wake(LATE_PASS, repeats=PASS))
        measure("deaths", lambda: self.batcher.deaths(PASS))
        measure("journal", lambda: self.batcher.journal('{"act":"purge","target":"all"}'))
        measure("report", lambda: self.batcher.report(PASS))

    def _steer(self, n: int) -> None:
        measure, batcher = self.gauge.measure, self.batcher
        measure("steer", lambda: batcher.set_stagger(Stagger(100.0, 0.01, StaggerWhy.DEMAND)))
        measure("pause all", batcher.pause)
        measure("resume all", batcher.resume)
        where = destination(n)
        measure("pause one", lambda: batcher.pause(where))
        measure("resume one", lambda: batcher.resume(where))
        measure("forgive", lambda: batcher.forgive(f"{where}/hooks"))
        measure("cancel", lambda: batcher.cancel(name(self.count - 1 - n)))

    def _send(self) -> None:
        measure, batcher = self.gauge.measure, self.batcher
        fence = measure("lock", lambda: batcher.lock("scale"))
        size = batcher.settings.batch_size
        batch = measure(f"claim of {size}", lambda: batcher.claim("scale", fence))
        measure("unlock", lambda: batcher.unlock("scale", fence))
        outcomes = [Outcome.SENT] * 6 + [Outcome.RETRY, Outcome.DEAD]
        for claimed, outcome in zip(batch.callbacks, outcomes, strict=False):
            gate = measure("begin", partial(batcher.begin, claimed.id, claimed.token))
            if isinstance(gate, Go):
                self._settle(claimed, outcome)
        for claimed in batch.callbacks[10:15]:
            release = partial(batcher.release, claimed.id, claimed.token, batch.now_ms)
            measure("release", release)
        for claimed in batch.callbacks[15:]:
            backdate(self.client, "processing", claimed.id, _DAY_MS)
        measure(f"reclaim of {PASS}", lambda: batcher.reclaim(PASS, chance=0.5))

    def _settle(self, claimed: Claimed, outcome: Outcome) -> None:
        call = partial(
            self.batcher.settle,
            claimed.id,
            claimed.token,
            1,
            outcome,
            reason=None if outcome is Outcome.SENT else Reason.SERVER_ERROR,
            feedback=Feedback(Effect.NONE),
            entry='[1,1,"sent",200,null,5]',
        )
        self.gauge.measure("settle", call)

    def _crowd(self) -> None:
        """A thousand are claimed and late; then those in flight crash."""
        measure, batcher = self.gauge.measure, self.batcher
        claimed: list[Claimed] = []
        while len(claimed) < _CLAIMED:
            fence = batcher.lock("scale")
            claimed += batcher.claim("scale", fence).callbacks
            batcher.unlock("scale", fence)
        half = claimed[: _CLAIMED // 2]
        sending = [c.id for c in half if isinstance(batcher.begin(c.id, c.token), Go)]
        measure("pause all", batcher.pause)
        batcher.resume()
        for callback in claimed:
            backdate(self.client, "processing", callback.id, 2 * LATE_MS)
        measure(f"wake of {LATE_PASS}", lambda: batcher.wake(LATE_PASS, repeats=PASS))
        for id in sending:
            backdate(self.client, "processing", id, _DAY_MS)
        while self._reclaim():
            pass

    def _reclaim(self) -> int:
        call = partial(self.batcher.reclaim, PASS, chance=0.5)
        return self.gauge.measure(f"reclaim of {PASS} that crashed", call).recovered

    def _die(self) -> None:
        """Twenty thousand expire at once, and many records are old."""
        last = self.count * 2
        put(self.batcher, range(last, last + _DYING), self.destinations, life_ms=1)
        expire = partial(self.batcher.expire, EXPIRE_PASS)
        while self.gauge.measure(f"expire of {EXPIRE_PASS}", expire) == EXPIRE_PASS:
            pass
        until, _ = self.batcher.deaths(PASS)
        self.batcher.notified(until - _DAY_MS)

    def _dead_letters(self, n: int) -> None:
        measure, batcher, first = self.gauge.measure, self.batcher, self.count * 2 + n * 1_000
        ids = [name(first + k) for k in range(1_000)]
        measure("replay of 500", lambda: batcher.replay(ids[:500]))
        measure("purge of 500", lambda: batcher.purge(ids[500:]))
        measure("deaths", lambda: batcher.deaths(PASS))

    def _forget(self) -> None:
        """Trim dead letters, sent records and destinations that are all too old or too many."""
        self._age("dead", 8 * _DAY_MS)
        self._age("destinations", 2 * _DAY_MS)
        for n in range(_TIMES):
            for k in range(TRIM_PASS):
                self.batcher.cancel(name(n * TRIM_PASS + k))
            label = f"trim of {TRIM_PASS} and {DEAD_STEP}"
            self.gauge.measure(label, lambda: self.batcher.trim(TRIM_PASS, sent_max=0))

    def _age(self, index: str, by_ms: int) -> None:
        """Move the oldest of an index into the past."""
        key = "{callbacks}:" + index
        oldest: Any = self.client.zrange(key, 0, _DYING, withscores=True)
        self.client.zadd(key, {member: at - by_ms for member, at in oldest})
