"""When a batch is due, as a pure function of what is waiting."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from callbacks.model import Look


class FlushReason(StrEnum):
    """Why a batch is due."""

    BATCH_FULL = "batch_full"
    MAX_DELAY = "max_delay"
    HALF_FULL = "half_full"
    TRIGGER_LOST = "trigger_lost"


@dataclass(frozen=True, slots=True)
class Flush:
    """A batch is due now."""

    reason: FlushReason
    waited_ms: int


@dataclass(frozen=True, slots=True)
class Wait:
    """No batch is due; look again after `ms`, or if None, when something is enqueued."""

    ms: int | None


def decide_flush(look: Look, *, batch_size: int, max_delay_ms: int) -> Flush | Wait:
    """Decide whether a batch is due: it is full, or its oldest callback has waited long enough.

    Half a batch is due after half of `max_delay_ms`. Only ready callbacks count, and age is
    measured from the due time, so paused and parked destinations never trigger. A lost trigger is
    replaced, whatever is waiting.
    """
    oldest_ms = look.now_ms if look.oldest_due_ms is None else look.oldest_due_ms
    waited = look.now_ms - oldest_ms
    if look.trigger_lost and not look.paused:
        return Flush(FlushReason.TRIGGER_LOST, waited)
    if look.paused or look.oldest_due_ms is None:
        return _wait_for_the_first(look, max_delay_ms)
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
