"""The batcher's calls; compares each answer and each structure with the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final, TypeVar

from hypothesis.stateful import RuleBasedStateMachine, invariant

from callbacks.batcher.clock import RedisClock
from callbacks.batcher.history import MINUTES, TENS, greatest, read_sample
from callbacks.batcher.store import LOCK_TTL_MS, Batcher
from callbacks.model import (
    Again,
    Answer,
    Batch,
    ClaimResult,
    Early,
    Gate,
    Go,
    Item,
    Later,
    LaterWhy,
    QueueFull,
    Refused,
    Settled,
    Unlocked,
    needs_place,
)
from callbacks.policy.outcome import classify
from callbacks.policy.retry import Spent, decide_attempt
from callbacks.settings import Settings
from callbacks.units import ms
from callbacks.worker.duties import sample_once
from tests.redis.bench import Bench, Seen
from tests.redis.compare import compare
from tests.redis.ledger import LIVE, Entry, Ledger

_T = TypeVar("_T")

DAY_MS: Final = 86_400_000
_REFUSED: Final = Answer(404, None)


class Driver(RuleBasedStateMachine):
    """One batcher on one bench with its model. Every call goes through `do`."""

    bench: ClassVar[Bench]
    batcher: Batcher
    ledger: Ledger
    #: Whether to audit, too: many round trips, and it finds less than the model.
    audits: ClassVar[bool] = True
    sound = False

    def begin_anew(self, settings: Settings) -> None:
        self.batcher, self.ledger = self.bench.begin_anew(settings), Ledger(settings)
        self.before = self.seen = self.audited = self.bench.see()
        self.sound, self.nonces = True, 0
        self.batches: dict[str, Batch] = {}
        self.tokens: list[tuple[str, str, int]] = [("c-0", "of nobody", 1)]

    @property
    def now(self) -> int:
        return self.bench.now_ms

    def do(self, call: Callable[[], _T]) -> _T:
        self.check()
        self.sound, self.before = False, self.seen
        result = call()
        self.seen = self.bench.see()
        return result

    @invariant()
    def audit(self) -> None:
        """Compare everything after a rule."""
        self.check()
        if self.audits and self.seen != self.audited:
            assert self.bench.problems() == []
            self.audited = self.seen

    def check(self) -> None:
        """Compare every structure with the model; `sound` until the next call."""
        if not self.sound:
            compare(self.ledger, self.seen, self.now)
        self.sound = True

    def assert_unchanged(self, *but: str) -> None:
        def kept(seen: Seen) -> dict[str, Any]:
            return {k: v for k, v in seen.without_noise().items() if not k.startswith(but or "-")}

        assert kept(self.seen) == kept(self.before)

    def nonce(self) -> str:
        self.nonces += 1
        return f"nonce-{self.nonces:04}"

    def put(self, id: str, where: str, path: str, delay: int = 0, life: int = DAY_MS) -> None:
        url = f"{where}/{path}"
        packed = f'{where}\n["{url}","production",[]]\n{{}}'.encode()

        def call() -> tuple[bool, bool] | None:
            try:
                stored = self.batcher.enqueue(Item(id, where, packed, delay, life))
            except QueueFull:
                return None
            return stored.accepted, stored.conflict

        self.check()
        entry = Entry(id, where, url, due=self.now + delay, end=self.now + life)
        expected = None if self.ledger.refuses(id) else self.ledger.enqueue(entry)
        assert self.do(call) == expected
        return None if expected == (True, False) else self.assert_unchanged()

    # Progress

    def obtain(self, place: int, *phases: str) -> Entry | None:
        """Pick a callback in one of `phases`, or try to bring one there."""
        if not self.ledger.within(*phases):
            self._bring(place, phases[0])
        found = self.ledger.within(*phases)
        return found[place % len(found)] if found else None

    def _bring(self, place: int, phase: str) -> None:
        before = {"dead": ("sending",), "sending": ("claimed", "retry")}.get(phase)
        if before:
            e = self.obtain(place, *before)
            if e and phase == "dead":
                self.settle(e.id, e.token or "", e.attempts, _REFUSED)
            elif e:
                self.begin_in_time(e)
            return
        if not self.ledger.within("queued"):
            self.put_some(place)
        if phase != "queued":
            self.await_ready()
            self.dispatch_once("a")

    def await_ready(self) -> None:
        """Let time pass until a batch may be claimed, if that helps."""
        if self.seen.of("lock"):
            self.advance(LOCK_TTL_MS)
        places = [int(at) for at in self.seen.ring().values() if at < float("inf")]
        self.advance(max(500, min(places, default=0) - self.now))

    def put_some(self, place: int) -> None:
        for n in range(place, place + 3):
            self.put(f"c-{n % 10}", f"https://{'abc'[place % 3]}.example:443", "y")

    def dispatch_once(self, owner: str) -> None:
        fence, nonce = self.lock(owner), self.nonce()
        self.claim(owner, fence, nonce)
        self.unlock(owner, fence)

    def begin_in_time(self, e: Entry, late: bool = False) -> Gate:
        """Do what a worker does with a punctual message."""
        self.advance(max(0, e.due - self.now - 100) + 200 * late)
        token = e.token or ""
        gate = self.begin(e.id, token, self.nonce())
        if isinstance(gate, Later):
            self.release(e.id, token, gate.due_ms, gate.why)
        return gate

    def advance(self, ms: int) -> None:
        if ms:
            self.do(lambda: self.bench.advance(ms))

    def lock(self, owner: str) -> int:
        holder, _, number = (self.seen.of("lock") or ":0").partition(":")
        if not holder:
            self.ledger.fence += 1
            number = str(self.ledger.fence)
        fence = self.do(lambda: self.batcher.lock(owner))
        assert fence == (int(number) if holder in {"", owner} else 0)
        return fence

    def claim(self, owner: str, fence: int, nonce: str) -> Batch:
        held = self.seen.of("lock") == f"{owner}:{fence}"
        known = self.batches.get(nonce) if nonce in (self.seen.of("claimed") or "") else None
        batch = self.do(lambda: self.batcher.claim(owner, fence, nonce=nonce))
        if not held:
            assert (batch.result, batch.callbacks) == (ClaimResult.LOCK_LOST, ())
            self.assert_unchanged()
        elif known:
            assert batch == known
            self.assert_unchanged()
        elif batch.result is ClaimResult.CLAIMED:
            self.ledger.claim(batch, self.now, self.before, self.seen)
            self.batches[nonce] = batch
            self.tokens += ((c.id, c.token, 1) for c in batch.callbacks)
        else:
            assert batch.callbacks == ()
            assert (batch.result is ClaimResult.PAUSED) == self.ledger.paused
        return batch

    def begin(self, id: str, token: str, nonce: str) -> Gate:
        self.check()
        expected = self.ledger.gate(id, token, nonce, self.now)
        has_place = needs_place(token)
        gate = self.do(lambda: self.batcher.begin(id, token, nonce=nonce, has_place=has_place))
        if isinstance(expected, Refused | Early):
            assert gate == expected
            self.assert_unchanged()
        elif expected:
            assert gate == Later(self.now, expected)
            self.assert_unchanged()
        elif self.ledger.wakes_up_cancelled(id, self.now):
            assert gate is Refused.STALE
            self.ledger.cancel_asleep(id, self.now)
        elif gate is Refused.BEGUN:
            assert self.ledger.has_lapsed(id, self.now)
            self.assert_unchanged("inflight:")
        elif isinstance(gate, Later) and self.ledger.entries[id].phase == "sending":
            assert gate.why is LaterWhy.PACE
            self.ledger.give_up(id)
        elif not isinstance(gate, Go):
            self._check_shut(id, token, gate)
        elif self.ledger.go(id, nonce, gate, self.before, self.seen):
            self.tokens.append((id, token, gate.attempt))
        else:
            self.assert_unchanged()
        return gate

    def _check_shut(self, id: str, token: str, gate: Gate) -> None:
        """The gate is closed for a reason that the model does not predict: nothing changes."""
        assert isinstance(gate, Later | Again)
        assert isinstance(gate, Again) or gate.due_ms >= self.now
        if isinstance(gate, Later) and gate.why is LaterWhy.UNPROVEN:
            assert self.before.needs_place(self.ledger.entries[id].destination, self.now)
            assert not needs_place(token)
        self.assert_unchanged("inflight:", "suspects", "trial")

    def settle(self, id: str, token: str, attempt: int, answer: Answer) -> None:
        self.check()
        e = self.ledger.entries.get(id) or Entry(id, "", "", 0, 0)
        delays = self.ledger.settings.retry_delays
        classification = classify(answer, now_s=self.now / 1000)
        decision = decide_attempt(
            classification, Spent(e.retries, e.throttled, e.probe, e.refused), delays=delays
        )
        first = e.phase == "sending"
        expected = self.ledger.settle(id, token, attempt, decision, self.now)
        given = {
            "reason": decision.reason,
            "feedback": classification.feedback,
            "entry": f"[{attempt},{self.now},null,null,null,{ms(answer.duration)}]",
            "delay_ms": round(decision.delay_s * 1000),
            "park": decision.park,
            "throttled": decision.throttled,
            "status": answer.status,
            "duration_ms": ms(answer.duration),
            "callback_url": e.url,
        }
        done = self.do(lambda: self.batcher.settle(id, token, attempt, decision.outcome, **given))
        assert done.settled is expected
        if not first or expected is Settled.STALE:
            self.assert_unchanged()
        elif classification.feedback.gone:
            self.ledger.gone.add(e.url)

    def release(self, id: str, token: str, due: int, why: LaterWhy) -> None:
        self.check()
        done = self.do(lambda: self.batcher.release(id, token, due, why=why))
        assert done.released == self.ledger.release(
            id, token, due, why, before=self.before, now=self.now
        )
        return None if done.released else self.assert_unchanged()

    def tick(self, ticker: str, places: int) -> None:
        """A worker process reports its places; the elected one adds all up."""
        elected = not self.seen.of("tick")
        ticked = int(self.seen.of("state").get("ticked", 0))
        done = self.do(lambda: self.batcher.tick(ticker, 2_000, places=places))
        assert done.elected == elected
        assert done.first_of_minute == (elected and ticked // 60_000 != self.now // 60_000)
        self.batcher.clock = RedisClock()  # time passes only for Redis here: no jump
        self.ledger.tick(ticker, places, self.now, elected=elected)

    def sample(self) -> None:
        """The elected ticker takes one in each minute."""
        taken = self.do(lambda: sample_once(self.batcher))
        kept = {place: read_sample(raw) for place, raw in self.seen.of("history").items()}
        assert kept.get(MINUTES.place(self.now)) == taken
        of_ten = kept.get(TENS.place(self.now))
        assert of_ten is not None
        assert of_ten == greatest([taken, of_ten])
        assert (taken.at_ms, taken.totals) == (self.now, dict(+self.ledger.counts))
        sizes = [len(self.ledger.within(*phases)) for phases in (("queued",), LIVE, ("dead",))]
        assert [taken.queued, taken.processing, taken.dead] == sizes
        assert taken.ready + taken.held <= taken.queued
        self.assert_unchanged("history")

    def unlock(self, owner: str, fence: int) -> None:
        held = self.seen.of("lock") == f"{owner}:{fence}"
        done = self.do(lambda: self.batcher.unlock(owner, fence))
        assert (done is not Unlocked.LOST) == held

    def reclaim_some(self, limit: int, chance: float) -> None:
        done = self.do(lambda: self.batcher.reclaim(limit, chance=chance))
        assert done == self.ledger.reclaim(limit, self.now, self.seen)

    def expire_some(self, limit: int) -> None:
        assert self.do(lambda: self.batcher.expire(limit)) == self.ledger.expire(limit, self.now)
