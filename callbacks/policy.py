"""Decisions, as pure functions over frozen values: when to flush, whether and when to try again.

Time and chance are arguments; nothing here touches Redis, a socket or a clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from callbacks.model import Look, Memory, Outcome, Reason
from callbacks.verdicts import Verdict

#: A retry that waits longer than this does so in its lane, not in a worker's memory.
PARK_AFTER_S: Final = 300.0
#: "Not now" answers that cost no retry; from then on they do.
MAX_THROTTLED: Final = 10
#: What a receiver that says "not now" without saying when is left, doubling.
THROTTLE_MIN_S: Final = 1.0
THROTTLE_MAX_S: Final = 60.0
#: From this share of its memory limit on Redis counts as full. The rest is for settling, for
#: records, and for what comes in before the next look.
FULL_SHARE: Final = 0.9
#: A sent record with its place in the index, measured generously.
SENT_RECORD_BYTES: Final = 500


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
    """No batch is due; look again after `ms`, or whenever something comes in (None)."""

    ms: int | None


def decide_flush(look: Look, *, batch_size: int, max_delay_ms: int) -> Flush | Wait:
    """Decide whether a batch is due: full, or its oldest callback waited long enough.

    Half a batch goes after half of `max_delay_ms`. Only ready callbacks count, and age is
    measured from the due time, so paused and parked destinations never trigger. A trigger that
    was lost is made up for, whatever waits.
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


@dataclass(frozen=True, slots=True)
class Room:
    """What a memory limit allows: whether enqueues are refused, and how many are remembered.

    `dead_max` None: as many dead letters as there are.
    """

    full: bool
    sent_max: int
    dead_max: int | None = None


def decide_room(memory: Memory | None, *, sent_max: int) -> Room:
    """Refuse enqueues from `FULL_SHARE` of the limit; keep sent records within a fifth of it.

    None: nobody may read how much is used, so there is no limit that we could keep.

    Dead letters stay as long as there is room. Where there is none they, too, are cut down to a
    fifth, the oldest first: better a week-old failure forgotten than new callbacks refused.
    """
    if memory is None or not memory.limit:
        return Room(False, sent_max)
    sent_max = min(sent_max, memory.limit // 5 // SENT_RECORD_BYTES)
    if memory.used < FULL_SHARE * memory.limit:
        return Room(False, sent_max)
    return Room(True, sent_max, memory.limit // 5 // max(1, memory.dead_bytes))


@dataclass(frozen=True, slots=True)
class Spent:
    """What a callback has used up before this attempt; `probe`: it tries a broken destination."""

    retries: int = 0
    throttled: int = 0
    probe: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """How an attempt ends. `park`: a retry waits in its lane; `throttled`: it costs no retry."""

    outcome: Outcome
    reason: Reason | None
    delay_s: float = 0.0
    park: bool = False
    throttled: bool = False


def decide_attempt(verdict: Verdict, spent: Spent, *, delays: tuple[float, ...]) -> Decision:
    """Grant a retry while the budget lasts, else end the callback.

    The n-th retry waits `delays[n - 1]` seconds. A receiver's "not now" and the failure of a
    broken destination's trial cost no retry, `MAX_THROTTLED` times at most.
    """
    if verdict.outcome is not Outcome.RETRY:
        return Decision(verdict.outcome, verdict.reason)
    if (verdict.throttled or spent.probe) and spent.throttled < MAX_THROTTLED:
        delay_s = _patience(verdict, spent)
        return Decision(Outcome.RETRY, verdict.reason, delay_s, park=True, throttled=True)
    if spent.retries >= len(delays):
        return Decision(Outcome.DEAD, verdict.reason)
    delay_s = delays[spent.retries]
    return Decision(Outcome.RETRY, verdict.reason, delay_s, park=delay_s > PARK_AFTER_S)


def _patience(verdict: Verdict, spent: Spent) -> float:
    """Give seconds: what the receiver asked for, or else a doubling wait; a trial has its own."""
    if not verdict.throttled:
        return 0.0  # the breaker of its destination knows when
    asked_s = verdict.impression.hold_ms / 1_000
    return asked_s or min(THROTTLE_MAX_S, THROTTLE_MIN_S * 2**spent.throttled)
