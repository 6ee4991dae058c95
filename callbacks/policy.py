"""Decisions, as pure functions over frozen values: when to flush, what an answer means, how long
to wait. Time and chance are arguments; nothing here touches Redis, a socket or a clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from callbacks.model import Answer, Look, Outcome, Reason

#: A retry that waits longer than this does so in its lane, not in a worker's memory.
PARK_AFTER_S: Final = 300.0

_REASON_OF_STATUS: Final = {410: Reason.GONE, 429: Reason.RATE_LIMITED}
#: Client errors that say "not now" rather than "not like this" (RFC 9110 15.5.9, RFC 8470,
#: RFC 6585).
_RETRIED_CLIENT_ERRORS: Final = frozenset({408, 425, 429})
#: Faults that no retry mends: the address stays refused.
_FINAL_FAULTS: Final = frozenset({Reason.BLOCKED_ADDRESS})


class FlushReason(StrEnum):
    """Why a batch is due."""

    BATCH_FULL = "batch_full"
    MAX_DELAY = "max_delay"
    HALF_FULL = "half_full"


@dataclass(frozen=True, slots=True)
class Flush:
    """A batch is due now."""

    reason: FlushReason
    waited_ms: int


@dataclass(frozen=True, slots=True)
class Wait:
    """No batch is due; look again after `ms`, or whenever something comes in (None)."""

    ms: int | None


def decide_flush(look: Look, *, batch_size: int, max_delay_ms: int) -> Flush | Wait:
    """Decide whether a batch is due: full, or its oldest callback waited long enough.

    Half a batch goes after half of `max_delay_ms`. Only ready callbacks count, and age is
    measured from the due time, so paused and parked destinations never trigger.
    """
    if look.paused or look.oldest_due_ms is None:
        return _wait_for_the_first(look, max_delay_ms)
    waited = look.now_ms - look.oldest_due_ms
    if look.ready >= batch_size:
        return Flush(FlushReason.BATCH_FULL, waited)
    if waited >= max_delay_ms:
        return Flush(FlushReason.MAX_DELAY, waited)
    half_full = 2 * look.ready >= batch_size
    if half_full and 2 * waited >= max_delay_ms:
        return Flush(FlushReason.HALF_FULL, waited)
    patience = max_delay_ms // 2 + max_delay_ms % 2 if half_full else max_delay_ms
    return Wait(patience - waited)


def _wait_for_the_first(look: Look, max_delay_ms: int) -> Wait:
    if look.paused or look.next_ready_ms is None:
        return Wait(None)
    return Wait(max(0, look.next_ready_ms - look.now_ms) + max_delay_ms)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one answer means for the callback."""

    outcome: Outcome
    reason: Reason | None


def classify(answer: Answer, *, retry_client_errors: bool = False) -> Verdict:
    """Map any answer to an outcome and its reason.

    2xx is sent; 410, 3xx and other 4xx are dead; 408, 425, 429, 5xx and faults of the
    network are retried. A status outside 200-599 cannot come from the transport; it is
    treated as `protocol` and retried, like every fault that is not known to be final.
    """
    if answer.status is None:
        fault = answer.fault or Reason.PROTOCOL
        return Verdict(Outcome.DEAD if fault in _FINAL_FAULTS else Outcome.RETRY, fault)
    return _classify_status(answer.status, retry_client_errors)


def _classify_status(status: int, retry_client_errors: bool) -> Verdict:
    if 200 <= status <= 299:
        return Verdict(Outcome.SENT, None)
    if 300 <= status <= 399:
        return Verdict(Outcome.DEAD, Reason.REDIRECT)
    if 400 <= status <= 499:
        reason = _REASON_OF_STATUS.get(status, Reason.CLIENT_ERROR)
        again = status in _RETRIED_CLIENT_ERRORS or (retry_client_errors and status != 410)
        return Verdict(Outcome.RETRY if again else Outcome.DEAD, reason)
    if 500 <= status <= 599:
        return Verdict(Outcome.RETRY, Reason.SERVER_ERROR)
    return Verdict(Outcome.RETRY, Reason.PROTOCOL)


@dataclass(frozen=True, slots=True)
class Decision:
    """How an attempt ends. `delay_s` and `park` are for a retry."""

    outcome: Outcome
    reason: Reason | None
    delay_s: float = 0.0
    park: bool = False


def decide_attempt(verdict: Verdict, *, retries: int, delays: tuple[float, ...]) -> Decision:
    """Grant a retry while `retries` used so far leave one of `delays` (s), else end it."""
    if verdict.outcome is not Outcome.RETRY:
        return Decision(verdict.outcome, verdict.reason)
    if retries >= len(delays):
        return Decision(Outcome.DEAD, verdict.reason)
    delay_s = delays[retries]
    return Decision(Outcome.RETRY, verdict.reason, delay_s, park=delay_s > PARK_AFTER_S)
