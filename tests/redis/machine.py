"""Random sequences of every verb, each answer and every structure held against the model.

An example ends by draining: everything resumed, time passing, until each callback is final.
What is stuck never gets there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from callbacks.model import (
    Answer,
    Go,
    Later,
    LaterWhy,
    QueueFull,
    Reason,
)
from callbacks.pace import Stagger, StaggerWhy
from callbacks.settings import load_settings
from tests.redis.drain import drain
from tests.redis.driver import Driver
from tests.redis.ledger import LIVE, Entry

SETTINGS: Final = st.fixed_dictionaries(
    {
        "batch_size": st.sampled_from([1, 3, 100]),
        "min_interval": st.sampled_from([0, 0.5]),
        "send_interval": st.sampled_from([0, 0.02, 0.2]),
        "destination_interval": st.sampled_from([0, 0.05, 0.2]),
        "destination_concurrency": st.sampled_from([0, 1, 2, 4]),
        "adaptive": st.sampled_from(["true", "false"]),
        "breaker_failures": st.sampled_from([0, 2, 5]),
        "max_queued": st.sampled_from([0, 0, 6]),
        "retry_schedule": st.sampled_from(["", "1", "400,5"]),
        "sent_max": st.sampled_from([100_000, 3]),
    }
)
FIXED: Final = {"REDIS_URL": "redis://127.0.0.1:1/0", "CALLBACKS_DEAD_TTL": "172800"}
ANSWERS: Final = (
    Answer(200, None, duration_ms=20),
    Answer(204, None, duration_ms=3_000),
    Answer(500, None, duration_ms=20),
    Answer(503, None, duration_ms=20),
    Answer(503, None, retry_after="7"),
    Answer(429, None),
    Answer(429, None, retry_after="90"),
    Answer(410, None),
    Answer(404, None),
    Answer(None, Reason.TIMEOUT, duration_ms=9_000),
    Answer(None, Reason.CONNECT),
    Answer(None, Reason.CRASHED),
)
DESTINATIONS: Final = tuple(f"https://{name}.example:443" for name in "abc")
ANY: Final = st.integers(0, 9)
LIMITS: Final = st.sampled_from([1, 2, 100])
IDS: Final = st.lists(ANY.map("c-{}".format), min_size=1, max_size=4)
STEPS: Final = (0, 1, 11, 60, 250, 1_000, 5_000, 16_000, 61_000, 310_000, 3_600_000, 90_000_000)
_DRAIN_MS: Final = 6 * 3_600_000


def packed(destination: str, url: str) -> bytes:
    return f'{destination}\n["{url}","production",[]]\n{{}}'.encode()


def has(*phases: str) -> Callable[[Any], Any]:
    return precondition(lambda self: bool(self.ledger.within(*phases)))


class Machine(Driver):
    """The rules: what may happen, in any order."""

    @initialize(given=SETTINGS)
    def start(self, given: dict[str, object]) -> None:
        environ = {f"CALLBACKS_{name.upper()}": str(value) for name, value in given.items()}
        self.begin_anew(load_settings(FIXED | environ))

    # Taking in

    @rule(
        n=ANY,
        where=st.sampled_from(DESTINATIONS),
        path=st.sampled_from("xy"),
        delay=st.sampled_from([0, 0, 0, 1_000, 60_000, 3_600_000]),
        life=st.sampled_from([1_000, 60_000, 7_200_000, 86_400_000, 86_400_000]),
    )
    def enqueue(self, n: int, where: str, path: str, delay: int, life: int) -> None:
        id, url = f"c-{n}", f"{where}/{path}"
        body = packed(where, url)

        def call() -> bool:
            return self.batcher.enqueue(id, where, body, delay_ms=delay, life_ms=life).accepted

        if self.ledger.refuses(id):
            with pytest.raises(QueueFull):
                self.do(call)
            self.seen = self.bench.see()
            return self.assert_unchanged()
        entry = Entry(id, where, url, due=self.now + delay, end=self.now + life)
        new = self.do(call)
        assert new == self.ledger.enqueue(entry)
        return None if new else self.assert_unchanged()

    @rule(full=st.booleans())
    def admit(self, full: bool) -> None:
        assert self.do(lambda: self.batcher.admit(full=full)) == (full != self.ledger.full)
        self.ledger.full = full

    # Dispatching

    @rule(
        owner=st.sampled_from("ab"),
        twist=st.sampled_from(["", "", "", "repeat", "expired", "lost", "stolen", "wrong", "kept"]),
    )
    def dispatch(self, owner: str, twist: str) -> None:
        fence = self.lock(owner)
        if twist == "expired":
            self.advance(10_001)
        if twist in {"lost", "stolen"}:
            self.do(self.bench.lose_lock)
        if twist == "stolen":
            self.lock("c")
        nonce = self.nonce()
        for _ in range(2 if twist == "repeat" else 1):
            self.claim(owner, fence + (twist == "wrong"), nonce)
        if twist != "kept":
            self.unlock(owner, fence)

    @rule()
    def look(self) -> None:
        look = self.do(self.batcher.look)
        sizes = [len(self.ledger.within(*phases)) for phases in (("queued",), LIVE)]
        assert [look.queued, look.processing, look.paused] == [*sizes, self.ledger.paused]
        self.assert_unchanged()

    @precondition(lambda self: self.ledger.settings.adaptive)
    @rule(interval=st.sampled_from([0.005, 0.05, 0.7]))
    def steer(self, interval: float) -> None:
        stagger = Stagger(1 / interval, interval, StaggerWhy.DEMAND)
        self.do(lambda: self.batcher.steer(stagger))
        self.assert_unchanged("state")

    # Sending

    @has("claimed", "retry")
    @rule(place=ANY, answer=st.sampled_from(ANSWERS), late=st.booleans())
    def deliver(self, place: int, answer: Answer, late: bool) -> None:
        """Do what a worker does with a message that comes in time."""
        e = self.pick(place, "claimed", "retry")
        self.advance(max(0, e.due - self.now - 100) + 200 * late)
        gate = self.begin(e.id, e.token or "", self.nonce())
        if isinstance(gate, Go):
            self.advance(gate.wait_ms)
            self.settle(e.id, e.token or "", e.attempts, answer)
        if isinstance(gate, Later):
            self.release(e.id, e.token or "", gate.due_ms, gate.why is LaterWhy.FULL)

    @has(*LIVE)
    @rule(place=ANY, again=st.booleans())
    def begin_one(self, place: int, again: bool) -> None:
        e = self.pick(place, *LIVE)
        self.begin(e.id, e.token or "", e.nonce if again and e.nonce else self.nonce())

    @has("sending")
    @rule(place=ANY, answer=st.sampled_from(ANSWERS), twice=st.booleans())
    def settle_one(self, place: int, answer: Answer, twice: bool) -> None:
        e = self.pick(place, "sending")
        for _ in range(1 + twice):
            self.settle(e.id, e.token or "", e.attempts, answer)

    @has("claimed", "retry")
    @rule(place=ANY, wait=st.sampled_from([0, 200, 30_000]), full=st.booleans())
    def release_one(self, place: int, wait: int, full: bool) -> None:
        e = self.pick(place, "claimed", "retry")
        self.release(e.id, e.token or "", self.now + wait, full)

    @rule(
        place=st.integers(0, 199),
        verb=st.sampled_from(["begin", "settle", "release"]),
        other=st.sampled_from([0, 0, 1, -1]),
        own=st.booleans(),
        answer=st.sampled_from(ANSWERS),
    )
    def come_late(self, place: int, verb: str, other: int, own: bool, answer: Answer) -> None:
        """A token or an attempt of any time, for its callback, another's or nobody's."""
        id, token, attempt = self.tokens[-1 - place % len(self.tokens)]
        token = token if own else self.tokens[place % len(self.tokens)][1]
        if verb == "begin":
            self.begin(id, token, self.nonce())
        elif verb == "settle":
            self.settle(id, token, attempt + other, answer)
        else:
            self.release(id, token, self.now, full=False)

    # Keeping promises

    @rule(limit=LIMITS)
    def wake(self, limit: int) -> None:
        expected = self.ledger.wake(limit, self.now)
        assert self.do(lambda: self.batcher.wake(limit)) == expected

    @rule(limit=LIMITS, chance=st.sampled_from([0.0, 0.5, 0.99]))
    def reclaim(self, limit: int, chance: float) -> None:
        self.reclaim_some(limit, chance)

    @rule(limit=LIMITS)
    def expire(self, limit: int) -> None:
        self.expire_some(limit)

    @rule(limit=LIMITS)
    def trim(self, limit: int) -> None:
        done = self.do(lambda: self.batcher.trim(limit))
        assert (done.sent, done.dead) == self.ledger.trim(limit, self.now)

    @rule(limit=LIMITS, tell=st.booleans())
    def deaths(self, limit: int, tell: bool) -> None:
        until, named = self.do(lambda: self.batcher.deaths(limit))
        assert (until, named) == self.ledger.deaths(limit, self.now)
        if tell:
            self.do(lambda: self.batcher.told(until))
            self.ledger.told = until

    # Steering

    @rule(n=ANY)
    def cancel(self, n: int) -> None:
        expected = self.ledger.cancel(f"c-{n}", self.now)
        assert self.do(lambda: self.batcher.cancel(f"c-{n}")) is expected

    @has("sending")
    @rule(place=ANY)
    def cancel_in_flight(self, place: int) -> None:
        self.cancel(int(self.pick(place, "sending").id[2:]))

    @rule(where=st.sampled_from([None, *DESTINATIONS]))
    def pause(self, where: str | None) -> None:
        flying = [e for e in self.ledger.within("sending") if where in {None, e.destination}]
        flying = [e for e in flying if where is None or e.lease >= self.now]
        assert self.do(lambda: self.batcher.pause(where)) == len(flying)
        self.ledger.paused = self.ledger.paused or where is None
        self.ledger.paused_destinations |= {where} - {None}

    @rule(where=st.sampled_from([None, *DESTINATIONS]))
    def resume(self, where: str | None) -> None:
        was = self.ledger.paused if where is None else where in self.ledger.paused_destinations
        changed = self.do(lambda: self.batcher.resume(where))
        assert changed or not was
        self.ledger.paused = self.ledger.paused and where is not None
        self.ledger.paused_destinations.discard(where or "")

    @rule(where=st.sampled_from(DESTINATIONS), path=st.sampled_from("xy"))
    def forgive(self, where: str, path: str) -> None:
        url = f"{where}/{path}"
        assert self.do(lambda: self.batcher.forgive(url)) == (url in self.ledger.gone)
        self.ledger.gone.discard(url)

    @has("dead")
    @rule(ids=IDS)
    def replay(self, ids: list[str]) -> None:
        assert self.do(lambda: self.batcher.replay(ids)) == self.ledger.replay(ids, self.now)

    @has("dead")
    @rule(ids=IDS)
    def purge(self, ids: list[str]) -> None:
        assert self.do(lambda: self.batcher.purge(ids)) == self.ledger.purge(ids)

    # Time and the server

    @rule(ms=st.sampled_from(STEPS))
    def let_pass(self, ms: int) -> None:
        self.advance(ms)

    @rule()
    def flush_scripts(self) -> None:
        self.bench.client.script_flush()

    # The end

    def teardown(self) -> None:
        if not self.sound:  # it has failed already
            return
        self.admit(False)
        for where in (None, *self.ledger.paused_destinations):
            self.resume(where)
        drain(self)
