"""The duties, each one pass that returns what it did.

An actor, the ticker, a command and a test call the same functions. They bring together the
batcher, the pure decisions and one sender; messages go out through `Wakes`.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

import redis

from callbacks.batcher import Batcher
from callbacks.delivery import AICallback, Sender
from callbacks.log import log
from callbacks.model import (
    Answer,
    Batch,
    Claimed,
    ClaimResult,
    Go,
    Later,
    LaterWhy,
    Look,
    Recovered,
    Refused,
    Settled,
    Trimmed,
)
from callbacks.payload import unpack
from callbacks.policy import Decision, Flush, classify, decide_attempt, decide_flush
from callbacks.settings import ms

#: A message asks to come so much before its slot; the rest is waited in the actor, so that
#: slots are met although messages arrive unevenly. Less than `batcher.MAX_WAIT_MS`.
LEAD_MS: Final = 100
#: A finished request is worth waiting for Redis: its result is known, its lease runs.
SETTLE_PATIENCE_S: Final = 120.0
_SETTLE_PAUSE_S: Final = 0.5
#: Most of anything in one pass of the ticker.
PASS: Final = 100
TRIM_PASS: Final = 500


class Wakes(Protocol):
    """Sends the messages that wake actors. Losing one costs seconds, nothing more."""

    def callback(self, id: str, token: str, delay_ms: int) -> None:
        """Wake `send_single_callback` after `delay_ms`."""
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
        batch = batcher.claim(owner, fence)
        for claimed in batch.callbacks:
            _wake(wakes, claimed, batch.now_ms)
        if batch.arm_ms is not None:
            wakes.trigger(batch.arm_ms)
    finally:
        batcher.unlock(owner, fence)
    _log_batch(batch)
    return batch


def _wake(wakes: Wakes, claimed: Claimed, now_ms: int) -> None:
    wakes.callback(claimed.id, claimed.token, max(0, claimed.slot_ms - now_ms - LEAD_MS))


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

    gate: Go | Later | Refused
    settled: Settled | None = None
    answer: Answer | None = None
    retry_ms: int | None = None


def send_once(
    batcher: Batcher,
    sender: Sender,
    id: str,
    token: str,
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> Sent:
    """Ask the gate, send if it opens, and settle; else give the callback back."""
    gate = batcher.begin(id, token)
    if isinstance(gate, Go):
        return _Attempt(batcher, id, token, gate, sleep).make(sender)
    if isinstance(gate, Later):
        batcher.release(id, token, gate.due_ms, full=gate.why is LaterWhy.FULL)
    elif gate is Refused.EXPIRED:
        expire_once(batcher)
    log.debug("postponed", id=id, why=str(gate))
    return Sent(gate)


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One attempt that the gate let through."""

    batcher: Batcher
    id: str
    token: str
    go: Go
    sleep: Callable[[float], None]

    @property
    def at_ms(self) -> int:
        """The instant that the gate reserved."""
        return self.go.now_ms + self.go.wait_ms

    def make(self, sender: Sender) -> Sent:
        """Wait for the instant, send, settle, and log one line."""
        self.sleep(self.go.wait_ms / 1_000)
        settings, go = self.batcher.settings, self.go
        request = unpack(go.packed)
        callback = AICallback.stored(self.id, request, settings)
        answer = callback.send(attempt=go.attempt, timestamp_s=self.at_ms // 1_000, sender=sender)
        verdict = classify(answer, retry_client_errors=settings.retry_client_errors)
        decision = decide_attempt(verdict, retries=go.retries, delays=settings.retry_delays)
        settled = self._settle(answer, decision)
        self._log(request.destination, answer, decision, settled)
        retry_ms = ms(decision.delay_s) if settled is Settled.RETRY else None
        return Sent(go, settled, answer, retry_ms)

    def _settle(self, answer: Answer, decision: Decision) -> Settled:
        """Settle, waiting for Redis as long as it may take: a known result is not thrown away."""
        reason = decision.reason and decision.reason.value
        outcome, attempt = decision.outcome, self.go.attempt
        entry = [attempt, self.at_ms, outcome.value, answer.status, reason, answer.duration_ms]
        settle = partial(
            self.batcher.settle,
            self.id,
            self.token,
            attempt,
            outcome,
            reason=decision.reason,
            delay_ms=ms(decision.delay_s),
            park=decision.park,
            entry=json.dumps(entry, separators=(",", ":")),
            detail=answer.detail,
        )
        for _ in range(int(SETTLE_PATIENCE_S / _SETTLE_PAUSE_S)):
            try:
                return settle()
            except redis.RedisError:
                self.sleep(_SETTLE_PAUSE_S)
        return settle()

    def _log(self, destination: str, answer: Answer, decision: Decision, settled: Settled) -> None:
        again = settled in {Settled.RETRY, Settled.QUEUED}
        log.info(
            "attempt",
            id=self.id,
            destination=destination,
            attempt=self.go.attempt,
            outcome=decision.outcome.value,
            reason=decision.reason and decision.reason.value,
            status=answer.status,
            duration_ms=answer.duration_ms,
            state=settled.name.lower(),
            retry_in_s=decision.delay_s if again else None,
            detail=answer.detail or None,
        )


# Keeping promises


def wake_once(batcher: Batcher, wakes: Wakes) -> int:
    """Send a new message for each claimed callback that is late and not begun; how many."""
    named = batcher.wake(max(PASS, batcher.settings.batch_size))
    for id, token in named:
        wakes.callback(id, token, 0)
    if named:
        log.info("woken", count=len(named))
    return len(named)


def recover_once(batcher: Batcher, *, chance: float) -> Recovered:
    """Take back what is past its lease, one bounded pass."""
    done = batcher.reclaim(PASS, chance=chance)
    if done != Recovered(0, 0, 0):
        log.warning("recovered", count=done.recovered, dead=done.dead, cancelled=done.cancelled)
    return done


def expire_once(batcher: Batcher) -> int:
    """End what is past its age, one bounded pass; how many."""
    expired = batcher.expire(PASS)
    if expired:
        log.warning("expired", count=expired)
    return expired


def trim_once(batcher: Batcher) -> Trimmed:
    """Forget old records, one bounded pass."""
    return batcher.trim(TRIM_PASS)


def tick_once(
    batcher: Batcher, wakes: Wakes, *, chance: float, also: Callable[[], object] | None = None
) -> None:
    """Do every duty once. One that fails keeps none of the others from its turn.

    Raises the first error when all had their turn.
    """
    duties: list[Callable[[], object]] = [
        lambda: wake_once(batcher, wakes),
        lambda: recover_once(batcher, chance=chance),
        lambda: expire_once(batcher),
        lambda: flush_once(batcher, wakes),
        lambda: trim_once(batcher),
    ]
    if also is not None:
        duties.append(also)
    first: Exception | None = None
    for duty in duties:
        try:
            duty()
        except Exception as error:  # noqa: BLE001 - raised below, after the others' turn
            first = first or error
    if first is not None:
        raise first
