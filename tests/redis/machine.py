"""Random sequences of every verb; compares each answer and every structure with the model.

An example ends with a drain: everything is resumed and time passes until each callback is final.
What is stuck never gets there.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from callbacks.batcher.store import LOCK_TTL_MS
from callbacks.model import Answer, Go, LaterWhy
from callbacks.policy.stagger import Stagger, StaggerWhy
from callbacks.settings import load_settings
from tests.redis.drain import drain
from tests.redis.ledger import LIVE
from tests.redis.operator import ALL_LANES, ANSWERS, ANY, DESTINATIONS, FAULTS, Operator

SETTINGS: Final = st.fixed_dictionaries(
    {
        "batch_size": st.sampled_from([1, 3, 100, 100]),
        "min_interval": st.sampled_from([0, 0.5]),
        "send_interval": st.sampled_from([0, 0.02, 0.2]),
        "destination_interval": st.sampled_from([0, 0.05, 0.2]),
        "destination_concurrency": st.sampled_from([0, 1, 1, 2]),
        "adaptive": st.sampled_from(["true", "false"]),
        "breaker_failures": st.sampled_from([0, 2, 2]),
        "refused_hold": st.sampled_from([0, 1, 2]),
        "max_queued": st.sampled_from([0, 0, 6]),
        "retry_schedule": st.sampled_from(["", "1", "400,5"]),
        "sent_max": st.sampled_from([100_000, 3]),
    }
)
FIXED: Final = {"REDIS_URL": "redis://127.0.0.1:1/0", "CALLBACKS_DEAD_TTL": "172800"}
TWISTS: Final = ("", "repeat", "repeat", "hasty", "expired", "lost", "stolen", "wrong", "kept")
LIMITS: Final = st.sampled_from([1, 2, 100])
SECONDS: Final = (0.001, 0.011, 0.06, 0.25, 0.25, 1, 1, 5, 16, 61, 310, 3_600, 90_000)


class Machine(Operator):
    """The rules: what may happen, in any order, besides what an operator does."""

    @initialize(
        given=SETTINGS,
        callbacks=st.lists(
            st.sampled_from((*DESTINATIONS, *[DESTINATIONS[0]] * 3)), min_size=3, max_size=9
        ),
        proven=st.sampled_from([True, True, False]),
        places=st.sampled_from([0, 0, 2, 4]),
    )
    def start(
        self, given: dict[str, object], callbacks: list[str], proven: bool, places: int
    ) -> None:
        environ = {f"CALLBACKS_{name.upper()}": str(value) for name, value in given.items()}
        self.begin_anew(load_settings(FIXED | environ))
        if proven:
            self.do(lambda: self.bench.prove(DESTINATIONS))
        for n, where in enumerate(callbacks):
            self.put(f"c-{n}", where, "x")
        if places:
            self.tick("w-0", places)

    # Enqueueing

    @rule(
        n=ANY,
        where=st.sampled_from(DESTINATIONS),
        path=st.sampled_from("xy"),
        delay=st.sampled_from([0, 0, 0, 1_000, 60_000, 3_600_000]),
        life=st.sampled_from([1_000, 60_000, 7_200_000, 86_400_000, 86_400_000]),
    )
    def enqueue(self, n: int, where: str, path: str, delay: int, life: int) -> None:
        self.put(f"c-{n}", where, path, delay, life)

    @rule(full=st.sampled_from([False, False, True]))
    def admit(self, full: bool) -> None:
        assert self.do(lambda: self.batcher.admit(full=full)) == (full != self.ledger.full)
        self.ledger.full = full

    # Dispatching

    @rule(
        owner=st.sampled_from("ab"),
        twist=st.sampled_from(TWISTS),
    )
    def dispatch(self, owner: str, twist: str) -> None:
        if not self.ledger.within("queued"):
            self.put_some(self.nonces)
        if twist in {"repeat", "hasty"}:
            self.await_ready()
        fence, nonce = self.lock(owner), self.nonce()
        self.unlock("rival", self.lock("rival"))
        self._lose_lock(twist)
        self.claim(owner, fence + (twist == "wrong"), nonce)
        if twist == "repeat":
            self.claim(owner, fence, nonce)
        if twist == "hasty":
            self.put_some(self.nonces)
            self.claim(owner, fence, self.nonce())
        if twist != "kept":
            self.unlock(owner, fence)

    def _lose_lock(self, twist: str) -> None:
        if twist == "expired":
            self.advance(LOCK_TTL_MS)
        if twist in {"lost", "stolen"}:
            self.do(self.bench.lose_lock)
        if twist == "stolen":
            self.lock("c")

    @rule()
    def look(self) -> None:
        look = self.do(self.batcher.look)
        sizes = [len(self.ledger.within(*phases)) for phases in (("queued",), LIVE)]
        assert [look.queued, look.processing, look.paused] == [*sizes, self.ledger.paused]
        self.assert_unchanged()
        self.sample()

    @rule()
    def note_holds(self) -> None:
        def is_held(name: str) -> bool:
            d = self.seen.of(f"dest:{name}")
            waits = float(d.get("hold", 0)) > self.now and d.get("why") not in {None, "full"}
            return bool({"broken", "paused"} & d.keys()) or waits or self.ledger.is_paused(name)

        names = [*DESTINATIONS, ALL_LANES]
        held = {name for name in names if is_held(name)}
        assert self.do(lambda: self.batcher.note_holds(names)) == len(held)
        assert self.seen.of("held").keys() == held
        self.assert_unchanged("held")

    @precondition(lambda self: self.ledger.settings.adaptive)
    @rule(interval=st.sampled_from([0.005, 0.05, 0.7]))
    def set_stagger(self, interval: float) -> None:
        stagger = Stagger(1 / interval, interval, StaggerWhy.DEMAND)
        self.do(lambda: self.batcher.set_stagger(stagger))
        self.assert_unchanged("state")

    # Sending

    @rule(
        place=ANY,
        answer=st.sampled_from(ANSWERS),
        late=st.booleans(),
        times=st.sampled_from([1, 1, 3]),
    )
    def deliver(self, place: int, answer: Answer, late: bool, times: int) -> None:
        """Do what a worker does with punctual messages."""
        for _ in range(times):
            e = self.obtain(place, "claimed", "retry")
            gate = e and self.begin_in_time(e, late)
            if e and isinstance(gate, Go):
                self.advance(gate.wait_ms)
                self.settle(e.id, e.token or "", e.attempts, answer)

    @rule(place=ANY)
    def crowd(self, place: int) -> None:
        """Everything claimed for one destination begins, as far as the gate allows."""
        first = self.obtain(place, "claimed", "retry")
        for e in self.ledger.within("claimed", "retry"):
            if first and e.destination == first.destination:
                self.advance(max(0, e.due - self.now))
                self.begin(e.id, e.token or "", self.nonce())

    @rule(place=ANY, fault=st.sampled_from(FAULTS))
    def fail(self, place: int, fault: Answer) -> None:
        """Several requests to one destination are in flight, and all fail alike."""
        self.crowd(place)
        first = self.obtain(place, "sending")
        for e in self.ledger.within("sending"):
            if first and e.destination == first.destination:
                self.settle(e.id, e.token or "", e.attempts, fault)
        self.crowd(place)

    @rule(place=ANY, own=st.booleans())
    def begin_again(self, place: int, own: bool) -> None:
        e = self.obtain(place, "sending")
        if e is not None:
            self.begin(e.id, e.token or "", e.nonce if own and e.nonce else self.nonce())

    @rule(place=ANY, ms=st.sampled_from([11, 60, 300, 1_000]), expires=st.booleans())
    def oversleep(self, place: int, ms: int, expires: bool) -> None:
        """All senders to one destination are stopped past their instants and ask for new ones."""
        self.crowd(place)
        self.advance(ms)
        if expires:
            self.expire_some(100)
        first = self.obtain(place, "sending")
        for e in self.ledger.within("sending"):
            if first and e.destination == first.destination:
                self.begin(e.id, e.token or "", e.nonce or "")

    @rule(place=ANY, answer=st.sampled_from([*ANSWERS[:3], *ANSWERS]))
    def settle_twice(self, place: int, answer: Answer) -> None:
        e = self.obtain(place, "sending")
        for _ in range(2 if e else 0):
            self.settle(e.id, e.token or "", e.attempts, answer)

    @rule(place=ANY, times=st.sampled_from([1, 2]))
    def withhold(self, place: int, times: int) -> None:
        e = self.obtain(place, "sending")
        if e is not None:
            call = partial(
                self.batcher.withhold, e.id, e.token or "", e.attempts, detail="no answer"
            )
            for _ in range(times):
                self.check()
                expected = self.ledger.withhold(e.id, self.now)
                assert self.do(call).settled is expected

    @rule(place=ANY, wait=st.sampled_from([0, 200, 30_000]), why=st.sampled_from(LaterWhy))
    def release_one(self, place: int, wait: int, why: LaterWhy) -> None:
        e = self.obtain(place, "claimed", "retry")
        if e is not None:
            self.release(e.id, e.token or "", self.now + wait, why)

    @rule(
        place=st.integers(0, 199),
        phase=st.sampled_from(["", "claimed", "sending", "sending"]),
        other=st.sampled_from([0, 0, 1, -1]),
        answer=st.sampled_from(ANSWERS),
    )
    def come_late(self, place: int, phase: str, other: int, answer: Answer) -> None:
        """A token and an attempt from any time: its own, or used for a request in flight."""
        id, token, attempt = self.tokens[-1 - place % len(self.tokens)]
        e = self.obtain(place, phase) if phase else None
        if e is not None:
            id, attempt = e.id, e.attempts
            others = [t for _, t, _ in self.tokens if t != e.token]
            token = (e.token or "") if other else others[place % len(others)]
        self.settle(id, token, attempt + other, answer)
        self.begin(id, token, self.nonce())
        self.release(id, token, self.now, LaterWhy.PACE)

    # Recovery

    @rule(
        limit=LIMITS,
        place=ANY,
        late=st.sampled_from([999, 1_000, 4_000]),
        repeats=st.sampled_from([0, 1, 100]),
    )
    def wake(self, limit: int, place: int, late: int, repeats: int) -> None:
        e = self.obtain(place, "claimed", "retry")
        self.advance(max(0, e.due - self.now + late) if e else 0)
        for offset in (0, 0, limit):
            self.check()
            expected = self.ledger.wake(limit, offset, repeats, self.now)
            call = partial(self.batcher.wake, limit, offset=offset, repeats=repeats)
            assert self.do(call) == expected

    @rule(limit=LIMITS, chance=st.sampled_from([0.0, 0.5, 0.99]))
    def reclaim(self, limit: int, chance: float) -> None:
        self.reclaim_some(limit, chance)

    @rule(place=ANY, phase=st.sampled_from(["claimed", "sending"]), ms=st.sampled_from([-1, 0]))
    def vanish(self, place: int, phase: str, ms: int) -> None:
        """A worker dies; its lease ends, or not quite yet."""
        e = self.obtain(place, phase)
        if e is not None:
            self.advance(max(0, e.lease - self.now + ms))
            self.reclaim_some(100, 0.5)

    @rule(
        place=ANY,
        phase=st.sampled_from(["queued", "sending"]),
        ms=st.sampled_from([-1, 0]),
        answer=st.sampled_from([None, *FAULTS]),
    )
    def age(self, place: int, phase: str, ms: int, answer: Answer | None) -> None:
        """A callback reaches its end of life; a request in flight then may still fail."""
        e = self.obtain(place, phase)
        if e is None:
            return
        self.advance(max(0, e.end - self.now + ms))
        self.expire_some(100)
        if answer and e.phase == "sending":
            self.settle(e.id, e.token or "", e.attempts, answer)

    @rule(limit=LIMITS)
    def expire(self, limit: int) -> None:
        self.expire_some(limit)

    @rule(limit=LIMITS, place=ANY)
    def trim(self, limit: int, place: int) -> None:
        self.obtain(place, "dead")
        done = self.do(lambda: self.batcher.trim(limit))
        assert (done.sent, done.dead) == self.ledger.trim(limit, self.now)

    @rule(limit=LIMITS, tell=st.booleans())
    def deaths(self, limit: int, tell: bool) -> None:
        until, named = self.do(lambda: self.batcher.deaths(limit))
        assert (until, named) == self.ledger.deaths(limit, self.now)
        if tell:
            for at in (until, until - 1):  # of two reports the slower one comes last
                self.do(lambda at=at: self.batcher.notified(at))
                self.ledger.told = until

    @rule(
        ticker=st.sampled_from(["w-0", "w-1"]),
        places=st.sampled_from([0, 1, 2, 10]),
        later=st.booleans(),
    )
    def tell_places(self, ticker: str, places: int, later: bool) -> None:
        self.advance(2_000 * later)  # long enough for another election
        self.tick(ticker, places)

    # Time and the server

    @rule(seconds=st.sampled_from(SECONDS))
    def let_pass(self, seconds: float) -> None:
        self.advance(round(seconds * 1000))

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
