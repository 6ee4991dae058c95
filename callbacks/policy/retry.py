"""Whether and when to try again, as a pure function of an answer and the budget spent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from callbacks.model import Outcome, Reason
from callbacks.policy.outcome import Classification

#: A retry that waits longer than this waits in its lane, not in a worker's memory.
PARK_AFTER_S: Final = 300.0
#: How many "not now" answers cost no retry.
MAX_THROTTLED: Final = 10
#: The wait after a "not now" without a time; doubles each time, up to the maximum.
THROTTLE_MIN_S: Final = 1.0
THROTTLE_MAX_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Spent:
    """What a callback has used up so far.

    `probe`: this attempt probes a half-open destination; `refused`: one that is held because it
    refused the callbacks before.
    """

    retries: int = 0
    throttled: int = 0
    probe: bool = False
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """How an attempt ends. `park`: a retry waits in its lane; `throttled`: it costs no retry."""

    outcome: Outcome
    reason: Reason | None
    delay_s: float = 0.0
    park: bool = False
    throttled: bool = False


def decide_attempt(
    classification: Classification, spent: Spent, *, delays: tuple[float, ...]
) -> Decision:
    """Grant a retry while the budget lasts, else end the callback.

    The n-th retry waits `delays[n - 1]` seconds. A "not now" and a failed probe of a half-open
    destination cost no retry, up to `MAX_THROTTLED` times. One that refuses as before ends no
    callback that way: its hold is to keep them.
    """
    refused = spent.refused and classification.denies and spent.throttled < MAX_THROTTLED
    if classification.outcome is not Outcome.RETRY and not refused:
        return Decision(classification.outcome, classification.reason)
    if (classification.throttled or spent.probe) and spent.throttled < MAX_THROTTLED:
        delay_s = _patience(classification, spent)
        return Decision(Outcome.RETRY, classification.reason, delay_s, park=True, throttled=True)
    if spent.retries >= len(delays):
        return Decision(Outcome.DEAD, classification.reason)
    delay_s = delays[spent.retries]
    return Decision(Outcome.RETRY, classification.reason, delay_s, park=delay_s > PARK_AFTER_S)


def _patience(classification: Classification, spent: Spent) -> float:
    """Seconds to wait: what the receiver asked for, or else a doubling wait."""
    if not classification.throttled:
        return 0.0  # a failed probe: the destination's breaker holds it back
    asked_s = classification.feedback.hold_ms / 1_000
    return asked_s or min(THROTTLE_MAX_S, THROTTLE_MIN_S * 2**spent.throttled)
