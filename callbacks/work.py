"""The duties, each one pass that returns what it did.

An actor, the ticker, a command and a test call the same functions. They bring together the
batcher, the pure decisions and one sender; messages go out through `Wakes`.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol, TypeVar

from callbacks.batcher import MISSED_MS, Batcher
from callbacks.delivery import AICallback, Sender
from callbacks.log import log
from callbacks.model import (
    Again,
    Answer,
    Batch,
    Claimed,
    ClaimResult,
    Gate,
    Go,
    Later,
    Look,
    Recovered,
    Refused,
    Request,
    Settled,
    Settlement,
    Unlocked,
)
from callbacks.pace import Stagger, next_stagger
from callbacks.payload import unpack
from callbacks.policy import Decision, Flush, Spent, decide_attempt, decide_flush, decide_room
from callbacks.scripts import AWAY
from callbacks.settings import ms
from callbacks.verdicts import Verdict, classify

_T = TypeVar("_T")

#: A message asks to come so much before its slot; the rest is waited in the actor, so that
#: slots are met although messages arrive unevenly. Less than `batcher.MAX_WAIT_MS`.
LEAD_MS: Final = 100
#: What may have changed Redis is worth waiting for it: a begin whose answer is never fetched
#: counts as a crash, and a finished request has a result that must not be thrown away.
PATIENCE_S: Final = 120.0
_PAUSE_S: Final = 0.5
#: How often an attempt asks for a new instant before it goes all the same.
_NEW_INSTANTS: Final = 3
#: Most of anything in one pass of the ticker.
PASS: Final = 100
TRIM_PASS: Final = 500
#: Most steps of one duty in one pass: 10,000 records in a few hundred ms.
STEPS: Final = 20


class Timer(Protocol):
    """How a sender waits; a test does without waiting."""

    def monotonic(self) -> float:
        """Seconds that only grow."""
        ...

    def sleep(self, seconds: float, /) -> None:
        """Wait."""
        ...


class _Clock:
    monotonic = staticmethod(time.monotonic)
    sleep = staticmethod(time.sleep)


TIMER: Final[Timer] = _Clock()


class Wakes(Protocol):
    """Sends the messages that wake actors. Losing one costs seconds, nothing more."""

    def batch(self, claimed: Sequence[tuple[str, str, int]]) -> None:
        """Wake `send_single_callback` for each (id, token, delay_ms) after its delay."""
        ...

    def trigger(self, delay_ms: int) -> None:
        """Wake `trigger_batch_send` after `delay_ms`."""
        ...

    def check(self, delay_ms: int) -> None:
        """Wake `check_and_flush` after `delay_ms`."""
        ...


# Dispatching


def dispatch_once(batcher: Batcher, wakes: Wakes) -> Batch | None:
    """Claim one batch under the lock and send its messages; None: another dispatcher is at it."""
    owner = secrets.token_hex(16)
    fence = batcher.lock(owner)
    if not fence:
        return None
    try:
        pace_once(batcher)
        batch = batcher.claim(owner, fence)
        wakes.batch([_wake(claimed, batch.now_ms) for claimed in batch.callbacks])
    finally:
        unlocked = batcher.unlock(owner, fence)
    # Only now, with the lock free: it may come at once.
    _trigger(wakes, 0 if unlocked is Unlocked.MISSED else batch.arm_ms)
    _log_batch(batch)
    return batch


def pace_once(batcher: Batcher) -> Stagger | None:
    """Let arrivals, backlog and failures move the stagger; None: it is fixed."""
    s = batcher.settings
    if not s.adaptive or not s.send_interval:
        return None
    stagger = next_stagger(
        batcher.demand(),
        base_s=s.send_interval,
        min_s=s.send_interval_min,
        max_s=s.send_interval_max,
        drain_target_s=s.drain_target,
        batch_size=s.batch_size,
    )
    if batcher.steer(stagger):
        log.info("stagger", interval_s=round(stagger.interval_s, 4), reason=stagger.why.value)
    return stagger


def _wake(claimed: Claimed, now_ms: int) -> tuple[str, str, int]:
    return claimed.id, claimed.token, max(0, claimed.slot_ms - now_ms - LEAD_MS)


def _log_batch(batch: Batch) -> None:
    if batch.callbacks:
        ahead = batch.callbacks[-1].slot_ms - batch.now_ms
        log.info("batch", size=len(batch.callbacks), spread_ms=ahead, next_in_ms=batch.arm_ms)
    elif batch.result in (ClaimResult.SATURATED, ClaimResult.LOCK_LOST):
        log.warning("batch", size=0, result=batch.result.name.lower())


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check saw and did."""

    look: Look
    flush: Flush | None
    batch: Batch | None


def flush_once(batcher: Batcher, wakes: Wakes) -> Checked:
    """Look, decide, and dispatch a batch if one is due; else arm the next look where one helps."""
    settings = batcher.settings
    look = batcher.look()
    decision = decide_flush(
        look, batch_size=settings.batch_size, max_delay_ms=ms(settings.max_delay)
    )
    if isinstance(decision, Flush):
        log.info(
            "flush",
            reason=decision.reason.value,
            ready=look.ready,
            queued=look.queued,
            waited_ms=decision.waited_ms,
        )
        return Checked(look, decision, dispatch_once(batcher, wakes))
    horizon_ms = ms(settings.check_interval) + ms(settings.max_delay)
    if decision.ms is not None and decision.ms <= horizon_ms and batcher.arm(decision.ms):
        wakes.check(decision.ms)
    return Checked(look, None, None)


# Sending


@dataclass(frozen=True, slots=True)
class Sent:
    """What one wake-up of a callback led to. `retry_ms`: wake it again after so long."""

    gate: Gate
    settled: Settled | None = None
    answer: Answer | None = None
    retry_ms: int | None = None


def send_once(
    batcher: Batcher,
    wakes: Wakes,
    sender: Sender,
    id: str,
    token: str,
    *,
    timer: Timer = TIMER,
) -> Sent:
    """Ask the gate, send if it opens, and settle; else give the callback back."""
    attempt = _Attempt(batcher, wakes, id, token, secrets.token_hex(8), timer)
    asked, gate = attempt.begin()
    while isinstance(gate, Again):
        timer.sleep(gate.wait_ms / 1_000)
        asked, gate = attempt.begin()
    if isinstance(gate, Go):
        gate = attempt.await_instant(gate, asked)
        if isinstance(gate, Go):
            return attempt.make(sender, gate)
    if isinstance(gate, Later):
        _trigger(wakes, batcher.release(id, token, gate.due_ms, why=gate.why).arm_ms)
    elif gate is Refused.EXPIRED:
        expire_once(batcher)
    log.debug("postponed", id=id, why=str(gate))
    return Sent(gate)


def _trigger(wakes: Wakes, arm_ms: int | None) -> None:
    if arm_ms is not None:
        wakes.trigger(arm_ms)


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One attempt, from the question to the gate to its end."""

    batcher: Batcher
    wakes: Wakes
    id: str
    token: str
    nonce: str
    timer: Timer

    def begin(self) -> tuple[float, Gate]:
        """Ask the gate, waiting for Redis; when it was asked for the last time, and its answer."""

        def ask() -> tuple[float, Gate]:
            asked = self.timer.monotonic()
            return asked, self.batcher.begin(self.id, self.token, nonce=self.nonce)

        return self._patiently(ask)

    def _patiently(self, call: Callable[[], _T]) -> _T:
        """Repeat what is harmless to repeat, waiting for Redis as long as it may take."""
        for _ in range(int(PATIENCE_S / _PAUSE_S)):
            try:
                return call()
            except AWAY:
                self.timer.sleep(_PAUSE_S)
        return call()

    def await_instant(self, go: Go, asked: float) -> Gate:
        """Sleep until the reserved instant; reserve another where this process slept past it.

        A process that is stopped and continued would else send at once what it had reserved,
        and so would all its threads together. Where it slept past its lease, and the callback
        was taken back, the gate says so, and nothing is to be sent.
        """
        self._sleep(go.wait_ms)
        for _ in range(_NEW_INSTANTS):
            missed_ms = (self.timer.monotonic() - asked) * 1_000 - go.wait_ms
            if missed_ms <= MISSED_MS or not self._paced:
                break
            asked, again = self.begin()
            if not isinstance(again, Go):
                return again
            go = again
            self._sleep(go.wait_ms)
        return go

    def _sleep(self, wait_ms: int) -> None:
        if wait_ms > 0:  # a sleep of nothing still gives the processor away
            self.timer.sleep(wait_ms / 1_000)

    @property
    def _paced(self) -> bool:
        settings = self.batcher.settings
        return bool(settings.send_interval or settings.destination_interval)

    def make(self, sender: Sender, go: Go) -> Sent:
        """Send, settle, and log one line."""
        settings, at_ms = self.batcher.settings, go.now_ms + go.wait_ms
        request = unpack(go.packed)
        callback = AICallback.stored(self.id, request, settings)
        answer = callback.send(attempt=go.attempt, timestamp_s=at_ms // 1_000, sender=sender)
        verdict = classify(
            answer,
            now_s=at_ms / 1_000,
            retry_client_errors=settings.retry_client_errors,
            retry_after_max_s=settings.retry_after_max,
        )
        spent = Spent(go.retries, go.throttled, go.probe)
        decision = decide_attempt(verdict, spent, delays=settings.retry_delays)
        settlement = self._settle(go, request, answer, verdict, decision)
        _trigger(self.wakes, settlement.arm_ms)
        self._log(go, request, answer, decision, settlement)
        retry_ms = ms(decision.delay_s) if settlement.settled is Settled.RETRY else None
        return Sent(go, settlement.settled, answer, retry_ms)

    def _settle(
        self, go: Go, request: Request, answer: Answer, verdict: Verdict, decision: Decision
    ) -> Settlement:
        """Settle, waiting for Redis: a known result is not thrown away."""
        reason = decision.reason and decision.reason.value
        outcome, at_ms = decision.outcome, go.now_ms + go.wait_ms
        entry = [go.attempt, at_ms, outcome.value, answer.status, reason, answer.duration_ms]
        settle = partial(
            self.batcher.settle,
            self.id,
            self.token,
            go.attempt,
            outcome,
            reason=decision.reason,
            impression=verdict.impression,
            delay_ms=ms(decision.delay_s),
            park=decision.park,
            throttled=decision.throttled,
            entry=json.dumps(entry, separators=(",", ":")),
            detail=answer.detail,
            duration_ms=answer.duration_ms,
            callback_url=request.callback_url,
        )
        return self._patiently(settle)

    def _log(
        self, go: Go, request: Request, answer: Answer, decision: Decision, settlement: Settlement
    ) -> None:
        settled, interval_us = settlement.settled, settlement.interval_us
        if settlement.breaker:
            what = settlement.breaker.name.lower()
            log.warning("breaker", destination=request.destination, state=what)
        again = settled in {Settled.RETRY, Settled.QUEUED}
        log.info(
            "attempt",
            id=self.id,
            destination=request.destination,
            attempt=go.attempt,
            outcome=decision.outcome.value,
            reason=decision.reason and decision.reason.value,
            status=answer.status,
            duration_ms=answer.duration_ms,
            state=settled.name.lower(),
            retry_in_s=decision.delay_s if again else None,
            interval_ms=None if interval_us is None else round(interval_us / 1_000),
            detail=answer.detail or None,
        )


# Keeping promises


def wake_once(batcher: Batcher, wakes: Wakes) -> int:
    """Send a new message for each claimed callback that is late and not begun; how many."""
    named = batcher.wake(max(PASS, batcher.settings.batch_size))
    if named:
        wakes.batch([(id, token, 0) for id, token in named])
        log.info("woken", count=len(named))
    return len(named)


def recover_once(batcher: Batcher, *, chance: float) -> Recovered:
    """Take back what is past its lease, one bounded pass."""
    done = batcher.reclaim(PASS, chance=chance)
    if done != Recovered(0, 0, 0):
        log.warning("recovered", count=done.recovered, dead=done.dead, cancelled=done.cancelled)
    return done


def expire_once(batcher: Batcher) -> int:
    """End what is past its age, in bounded steps; how many."""
    expired = _in_steps(lambda: batcher.expire(PASS), PASS)
    if expired:
        log.warning("expired", count=expired)
    return expired


def trim_once(batcher: Batcher) -> int:
    """Forget old records in bounded steps, and refuse enqueues while memory is short; how many."""
    room = decide_room(batcher.memory(), sent_max=batcher.settings.sent_max)
    if batcher.admit(full=room.full):
        log.warning("memory", full=room.full)

    def step() -> int:
        trimmed = batcher.trim(TRIM_PASS, sent_max=room.sent_max, dead_max=room.dead_max)
        if room.dead_max is not None and trimmed.dead:
            log.warning("dead_letters_forgotten", count=trimmed.dead, reason="memory")
        return trimmed.sent + trimmed.dead

    return _in_steps(step, TRIM_PASS)


def tell_once(batcher: Batcher, tell: Callable[[str, str], None]) -> int:
    """Tell `(callback_id, reason)` of each callback that died since the last pass; how many.

    At least once: a pass that fails in between tells of the same ones again.
    """

    def step() -> int:
        until_ms, deaths = batcher.deaths(PASS)
        for id, reason in deaths:
            tell(id, reason)
        batcher.told(until_ms)
        return len(deaths)

    return _in_steps(step, PASS)


def _in_steps(step: Callable[[], int], full: int) -> int:
    """Repeat a bounded step while it comes back full, so that it keeps up with deliveries."""
    done = 0
    for _ in range(STEPS):
        some = step()
        done += some
        if some < full:
            break
    return done


def tick_once(
    batcher: Batcher, wakes: Wakes, *, chance: float, more: Sequence[Callable[[], object]] = ()
) -> None:
    """Do every duty once, and `more`. One that fails keeps none of the others from its turn.

    Raises the first error when all had their turn.
    """
    duties: list[Callable[[], object]] = [
        lambda: wake_once(batcher, wakes),
        lambda: recover_once(batcher, chance=chance),
        lambda: expire_once(batcher),
        lambda: flush_once(batcher, wakes),
        lambda: trim_once(batcher),
        *more,
    ]
    first: Exception | None = None
    for duty in duties:
        try:
            duty()
        except Exception as error:  # noqa: BLE001 - raised below, after the others' turn
            first = first or error
    if first is not None:
        raise first
