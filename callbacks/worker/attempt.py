"""One attempt: ask the gate, send if it opens, settle."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Protocol, TypeVar

from callbacks.batcher.errors import AWAY
from callbacks.batcher.store import MISSED_MS, Batcher
from callbacks.delivery.callback import AICallback, Sender
from callbacks.log import log
from callbacks.model import (
    Again,
    Answer,
    Breaker,
    Early,
    Gate,
    Go,
    Later,
    LaterWhy,
    Outcome,
    Reason,
    Refused,
    Request,
    Settled,
    Settlement,
    Waited,
    needs_place,
)
from callbacks.policy.outcome import Classification, classify
from callbacks.policy.retry import Decision, Spent, decide_attempt
from callbacks.policy.timing import before, packed
from callbacks.request.envelope import created_ms
from callbacks.request.freeze import unpack
from callbacks.telemetry import Attempting, attempting
from callbacks.text import moment, to_json
from callbacks.units import ms
from callbacks.worker.duties import LEAD_MS, Messages, expire_once, trigger
from callbacks.worker.nonces import Nonces
from callbacks.worker.places import Places

_T = TypeVar("_T")

#: What may have changed Redis is worth waiting for it: a begin whose answer is never fetched
#: counts as a crash, and a finished request has a result that must not be thrown away.
PATIENCE_S: Final = 120.0
_PAUSE_S: Final = 0.5
#: How often an attempt asks for a new instant before it goes all the same.
_NEW_INSTANTS: Final = 3
_NONCES: Final = Nonces()
#: A `begin` may take so long, over a slow network or with many threads. One that takes longer was
#: stopped in the middle, with its process or with Redis, and its instant may have passed.
_SLOW_S: Final = 1.0


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


@dataclass(frozen=True, slots=True)
class Sent:
    """What one wake-up of a callback led to. `retry_ms`: wake it again after so long."""

    gate: Gate
    settled: Settled | None = None
    answer: Answer | None = None
    retry_ms: int | None = None


def send_once(
    batcher: Batcher,
    messages: Messages,
    sender: Sender,
    id: str,
    token: str,
    *,
    places: Places,
    timer: Timer = TIMER,
) -> Sent:
    """Ask the gate, send if it opens, and settle; else give the callback back.

    A destination that has not answered lately needs one of the `places` that such may take.
    """
    has_place = needs_place(token)
    attempt = _Attempt(batcher, messages, places, id, token, has_place, _NONCES.next(), timer)
    if not has_place:
        return attempt.make(sender)
    with places.taking() as taken:
        return attempt.make(sender) if taken else attempt.give_back(Later(0, LaterWhy.UNPROVEN))


def _delivery_ms(outcome: Outcome, request: Request, ended_ms: int) -> int | None:
    """From enqueue to 2xx. Enqueue's time is that of the machine that called it."""
    created = created_ms(request.body) if outcome is Outcome.SENT else None
    return None if created is None else max(0, ended_ms - created)


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One attempt, from the question to the gate to its end.

    `has_place`: it has taken a place for a destination that has not answered lately.
    """

    batcher: Batcher
    messages: Messages
    places: Places
    id: str
    token: str
    has_place: bool
    nonce: str
    timer: Timer

    def make(self, sender: Sender) -> Sent:
        """Ask the gate and do what it says."""
        since, gate = self.begin()
        while isinstance(gate, Again):
            self.timer.sleep(gate.wait_ms / 1_000)
            since, gate = self.begin()
        if isinstance(gate, Go):
            since, gate = self.at_the_pace_of_all(since, gate)
        if isinstance(gate, Go):
            since, gate = self.await_instant(gate, since)
        if not isinstance(gate, Go):
            return self.give_back(gate)
        if self.has_place:
            return self.send(sender, gate, since)
        with self.places.watching(gate.overdue_ms / 1_000):
            return self.send(sender, gate, since)

    def give_back(self, gate: Gate) -> Sent:
        """End this wake-up without a request."""
        if isinstance(gate, Later):
            released = self.batcher.release(self.id, self.token, gate.due_ms, why=gate.why)
            trigger(self.messages, released.arm_ms)
        elif isinstance(gate, Early):  # the clocks differ; this message was the only one
            self.messages.batch([(self.id, self.token, gate.wait_ms - LEAD_MS)])
        elif gate is Refused.EXPIRED:
            expire_once(self.batcher)
        log.debug("postponed", id=self.id, why=str(gate))
        return Sent(gate)

    def begin(self, ahead_ms: int = -1) -> tuple[float, Gate]:
        """Ask the gate, waiting for Redis; from when on its answer counts, and that."""

        def ask() -> tuple[float, Gate]:
            asked = self.timer.monotonic()
            gate = self.batcher.begin(
                self.id,
                self.token,
                nonce=self.nonce,
                has_place=self.has_place,
                ahead_ms=ahead_ms,
            )
            answered = self.timer.monotonic()
            return answered if answered - asked <= _SLOW_S else asked, gate

        return self._patiently(ask)

    def at_the_pace_of_all(self, since: float, go: Go) -> tuple[float, Gate]:
        """Take an instant of the stagger over all shards, if there are several.

        Where that is later than the one reserved here, the gate puts the attempt off, however
        little it is: the destination's next one keeps its interval from where this one goes. Or it
        goes back to its lane.
        """
        pacer = self.batcher.pacer
        if pacer is None:
            return since, go
        for n in range(_NEW_INSTANTS):
            passed_ms = round((self.timer.monotonic() - since) * 1_000)
            left_ms = max(0, go.wait_ms - passed_ms)
            # One that the gate has put off and not sent back goes, however far ahead that is.
            take = partial(pacer.take, self.batcher, left_ms, must=n > 0)
            wait_ms, taken = self._patiently(take)
            if taken and wait_ms <= left_ms:
                break
            since, gate = self.begin(ahead_ms=wait_ms)
            if not isinstance(gate, Go):
                return since, gate
            go = replace(gate, asked_ms=go.asked_ms or go.now_ms)
            if taken and go.wait_ms <= wait_ms + MISSED_MS:
                break
        return since, go

    def _patiently(self, call: Callable[[], _T]) -> _T:
        """Repeat what is harmless to repeat, waiting for Redis as long as it may take."""
        give_up = self.timer.monotonic() + PATIENCE_S
        while True:
            try:
                return call()
            except AWAY:
                if self.timer.monotonic() >= give_up:
                    raise
                self.timer.sleep(_PAUSE_S)

    def await_instant(self, go: Go, since: float) -> tuple[float, Gate]:
        """Sleep until the reserved instant; reserve another where this process slept past it.

        Returns as `begin`, for the last instant.

        A process that is stopped and continued would else send at once what it had reserved,
        and so would all its threads together. Where it slept past its lease, and the callback
        was taken back, the gate says so, and nothing is to be sent.
        """
        self._sleep(go.wait_ms)
        for _ in range(_NEW_INSTANTS):
            missed_ms = (self.timer.monotonic() - since) * 1_000 - go.wait_ms
            if missed_ms <= MISSED_MS or not self._paced:
                break
            since, again = self.begin()
            if isinstance(again, Go):
                since, again = self.at_the_pace_of_all(since, again)
            if not isinstance(again, Go):
                return since, again
            go = again
            self._sleep(go.wait_ms)
        return since, go

    def _sleep(self, wait_ms: int) -> None:
        if wait_ms > 0:  # a sleep of nothing still gives the processor away
            self.timer.sleep(wait_ms / 1_000)

    @property
    def _paced(self) -> bool:
        settings = self.batcher.settings
        return bool(settings.send_interval or settings.destination_interval)

    def send(self, sender: Sender, go: Go, since: float) -> Sent:
        """Send, settle, and log one line."""
        request, settings = unpack(go.packed), self.batcher.settings
        with attempting(
            request,
            namespace=settings.namespace,
            id=self.id,
            attempt=go.attempt,
            sends_context=settings.traceparent,
            masks_paths=settings.mask_paths,
        ) as traced:
            return self._send(sender, go, request, self._waits(go, since), traced)

    def _send(
        self,
        sender: Sender,
        go: Go,
        request: Request,
        waits: tuple[int, ...],
        traced: Attempting,
    ) -> Sent:
        settings, at_ms = self.batcher.settings, go.now_ms + go.wait_ms
        callback = AICallback.stored(self.id, request, settings)
        answer = callback.send(
            attempt=go.attempt,
            timestamp_s=at_ms // 1_000,
            sender=sender,
            proven=go.overdue_ms > 0,
            trace_headers=traced.headers,
        )
        traced.answered(answer)
        if answer.fault is Reason.NO_SECRET:
            return self._withhold(go, request, answer)
        classification = classify(
            answer,
            now_s=at_ms / 1_000,
            retry_client_errors=settings.retry_client_errors,
            retry_after_max_s=settings.retry_after_max,
        )
        spent = Spent(go.retries, go.throttled, go.probe, go.refused)
        decision = decide_attempt(classification, spent, delays=settings.retry_delays)
        settlement = self._settle(go, request, answer, classification, decision, waits)
        trigger(self.messages, settlement.arm_ms)
        traced.ended(
            answer,
            waits,
            outcome=decision.outcome.value,
            reason=decision.reason and decision.reason.value,
            state=settlement.settled.name.lower(),
        )
        waited_ms = sum(waits) + ms(answer.resolver)
        self._log(go, request, answer, decision, settlement, waited_ms, traced.trace_id)
        retry_ms = ms(decision.delay_s) if settlement.settled is Settled.RETRY else None
        return Sent(go, settlement.settled, answer, retry_ms)

    def _waits(self, go: Go, since: float) -> tuple[int, ...]:
        """How long it has waited for what, as of now; see `timing.before`."""
        late_ms = ms(self.timer.monotonic() - since) - go.wait_ms
        at_ms = go.now_ms + go.wait_ms
        waited = go.waited or Waited(at_ms, at_ms, at_ms)
        asked_ms = go.asked_ms or go.now_ms
        return before(waited, asked_ms=asked_ms, at_ms=at_ms, late_ms=max(0, late_ms))

    def _withhold(self, go: Go, request: Request, answer: Answer) -> Sent:
        """Give it back as if it had not begun: it is our side that has no secret."""
        withhold = partial(
            self.batcher.withhold, self.id, self.token, go.attempt, detail=answer.detail
        )
        done = self._patiently(withhold)
        trigger(self.messages, done.arm_ms)
        log.warning(
            "no_secret",
            id=self.id,
            destination=request.destination,
            state=done.settled.name.lower(),
            wait_s=done.wait_ms / 1_000,
            detail=answer.detail,
        )
        return Sent(go, done.settled, answer)

    def _settle(  # noqa: PLR0917 - what is known of one attempt
        self,
        go: Go,
        request: Request,
        answer: Answer,
        classification: Classification,
        decision: Decision,
        waits: tuple[int, ...],
    ) -> Settlement:
        """Settle, waiting for Redis: a known result is not thrown away."""
        outcome, at_ms = decision.outcome, go.now_ms + go.wait_ms
        took_ms = ms(answer.duration)
        settle = partial(
            self.batcher.settle,
            self.id,
            self.token,
            go.attempt,
            outcome,
            reason=decision.reason,
            feedback=classification.feedback,
            delay_ms=ms(decision.delay_s),
            park=decision.park,
            throttled=decision.throttled,
            entry=history_entry(go.attempt, at_ms, answer, decision, waits),
            detail=answer.detail,
            status=answer.status,
            duration_ms=took_ms,
            delivery_ms=_delivery_ms(outcome, request, at_ms + took_ms),
            callback_url=request.callback_url,
        )
        return self._patiently(settle)

    def _log(  # noqa: PLR0917 - as `_settle`
        self,
        go: Go,
        request: Request,
        answer: Answer,
        decision: Decision,
        settlement: Settlement,
        waited_ms: int,
        trace_id: str | None,
    ) -> None:
        settled, interval_us = settlement.settled, settlement.interval_us
        if settlement.breaker:
            log_breaker(request.destination, settlement, answer, decision)
        again = settled in {Settled.RETRY, Settled.QUEUED}
        write = log.warning if settled is Settled.DEAD else log.info
        write(
            "attempt",
            id=self.id,
            destination=request.destination,
            attempt=go.attempt,
            outcome=decision.outcome.value,
            reason=decision.reason and decision.reason.value,
            status=answer.status,
            waited_ms=waited_ms,
            duration_ms=ms(answer.duration),
            state=settled.name.lower(),
            retry_in_s=decision.delay_s if again else None,
            interval_ms=None if interval_us is None else round(interval_us / 1_000),
            detail=answer.detail or None,
            said=answer.said or None,
            trace_id=trace_id,
        )


def log_breaker(
    destination: str, settlement: Settlement, answer: Answer, decision: Decision
) -> None:
    """Log that a breaker opened, why and until when, or that it closed."""
    if settlement.breaker is Breaker.CLOSED:
        log.info("breaker", destination=destination, state="closed", status=answer.status)
        return
    log.warning(
        "breaker",
        destination=destination,
        state="opened",
        reason=decision.reason and decision.reason.value,
        status=answer.status,
        failures=settlement.failures,
        until=moment(settlement.until_ms / 1_000),
    )


def history_entry(
    attempt: int,
    at_ms: int,
    answer: Answer,
    decision: Decision,
    waits: tuple[int, ...],
) -> str:
    """One attempt as it is stored, see `inspector.Attempt`; `waits`: see `timing.before`."""
    reason = decision.reason and decision.reason.value
    outcome = decision.outcome.value
    entry = [attempt, at_ms, outcome, answer.status, reason, ms(answer.duration), answer.said]
    entry.append(packed(waits, answer))
    text = to_json(entry)
    # A bracket within the text would look like the end of an entry to `record.lua`.
    return text[:-1].replace("]", "\\u005d") + "]"
