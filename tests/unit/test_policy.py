from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callbacks.model import Answer, Effect, Feedback, Look, Memory, Outcome, Reason
from callbacks.policy.flush import Flush, FlushReason, Wait, decide_flush
from callbacks.policy.outcome import Classification, classify
from callbacks.policy.retry import Decision, Spent, decide_attempt
from callbacks.policy.room import Room, decide_room

NOW = 1_800_000_000_000


def look(ready: int = 0, waited: int | None = None, **more: object) -> Look:
    fields = {
        "now_ms": NOW,
        "paused": False,
        "ready": ready,
        "oldest_due_ms": None if waited is None else NOW - waited,
        "next_ready_ms": None,
        "queued": ready,
        "processing": 0,
    }
    return Look(**(fields | more))  # type: ignore[arg-type]


def decide(seen: Look) -> Flush | Wait:
    return decide_flush(seen, batch_size=100, max_delay_ms=5000)


@pytest.mark.parametrize(
    ("ready", "waited", "expected"),
    [
        (100, 0, Flush(FlushReason.BATCH_FULL, 0)),
        (100, 9000, Flush(FlushReason.BATCH_FULL, 9000)),
        (99, 2499, Wait(1)),  # half a batch: its patience is 2,500
        (50, 2500, Flush(FlushReason.HALF_FULL, 2500)),
        (50, 2499, Wait(1)),
        (49, 2500, Wait(2500)),
        (49, 4999, Wait(1)),
        (1, 5000, Flush(FlushReason.MAX_DELAY, 5000)),
        (1, 0, Wait(5000)),
    ],
)
def test_a_batch_is_due_when_full_old_or_half_of_both(
    ready: int, waited: int, expected: Flush | Wait
) -> None:
    assert decide(look(ready, waited)) == expected


def test_nothing_ready_waits_until_a_destination_gets_ready_and_its_patience_is_over() -> None:
    assert decide(look()) == Wait(None)
    assert decide(look(next_ready_ms=NOW + 700)) == Wait(5700)
    assert decide(look(next_ready_ms=NOW - 5)) == Wait(5000)


def test_while_paused_nothing_is_due() -> None:
    assert decide(look(100, 9000, paused=True)) == Wait(None)


def test_without_a_delay_one_callback_is_a_batch() -> None:
    one = look(1, 0)
    assert decide_flush(one, batch_size=100, max_delay_ms=0) == Flush(FlushReason.MAX_DELAY, 0)


@given(
    ready=st.integers(0, 200),
    waited=st.integers(0, 20_000),
    batch_size=st.integers(1, 200),
    max_delay=st.integers(0, 10_000),
)
def test_waiting_max_delay_makes_a_batch_due_and_a_moment_less_does_not(
    ready: int, waited: int, batch_size: int, max_delay: int
) -> None:
    decision = decide_flush(look(ready, waited), batch_size=batch_size, max_delay_ms=max_delay)
    if isinstance(decision, Wait):
        assert decision.ms is not None
        assert decision.ms > 0
        then = look(ready, waited + decision.ms)
        just_before = look(ready, waited + decision.ms - 1)
        assert isinstance(decide_flush(then, batch_size=batch_size, max_delay_ms=max_delay), Flush)
        assert isinstance(
            decide_flush(just_before, batch_size=batch_size, max_delay_ms=max_delay), Wait
        )


def classification(outcome: Outcome, reason: Reason | None, **more: object) -> Classification:
    return Classification(outcome, reason, Feedback(Effect.NONE), **more)  # type: ignore[arg-type]


def test_retries_wait_by_the_schedule_until_it_is_used_up() -> None:
    failed = classification(Outcome.RETRY, Reason.TIMEOUT)
    delays = (30.0, 60.0)
    assert decide_attempt(failed, Spent(0), delays=delays) == Decision(
        Outcome.RETRY, Reason.TIMEOUT, 30.0
    )
    assert decide_attempt(failed, Spent(1), delays=delays).delay_s == 60.0
    dead = Decision(Outcome.DEAD, Reason.TIMEOUT)
    assert decide_attempt(failed, Spent(2), delays=delays) == dead
    assert decide_attempt(failed, Spent(10_000), delays=delays) == dead
    assert decide_attempt(failed, Spent(0), delays=()) == dead


def test_a_wait_of_more_than_five_minutes_is_waited_in_the_lane() -> None:
    failed = classification(Outcome.RETRY, Reason.TIMEOUT)
    assert not decide_attempt(failed, Spent(0), delays=(300.0,)).park
    assert decide_attempt(failed, Spent(0), delays=(300.1,)).park


def test_final_verdicts_stay_as_they_are() -> None:
    for final in (classification(Outcome.SENT, None), classification(Outcome.DEAD, Reason.GONE)):
        decision = decide_attempt(final, Spent(0), delays=(1.0,))
        assert (decision.outcome, decision.reason) == (final.outcome, final.reason)


def test_not_now_costs_no_retry_ten_times_and_waits_longer_each_time() -> None:
    not_now = classification(Outcome.RETRY, Reason.RATE_LIMITED, throttled=True)
    decisions = [decide_attempt(not_now, Spent(0, n), delays=(30.0,)) for n in range(12)]
    # 1 s doubling to a minute: 1, 2, 4, 8, 16, 32, then 60; after ten the budget pays.
    assert [d.delay_s for d in decisions[:10]] == [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]
    assert all(d.throttled and d.park for d in decisions[:10])
    assert decisions[10] == Decision(Outcome.RETRY, Reason.RATE_LIMITED, 30.0)


def test_a_retry_after_is_obeyed() -> None:
    asked = Classification(
        Outcome.RETRY, Reason.RATE_LIMITED, Feedback(Effect.ALIVE, hold_ms=7000), throttled=True
    )
    assert decide_attempt(asked, Spent(0, 3), delays=()).delay_s == 7


def test_a_broken_destinations_trial_costs_no_retry_ten_times() -> None:
    failed = classification(Outcome.RETRY, Reason.CONNECT)
    free = decide_attempt(failed, Spent(2, 9, probe=True), delays=(30.0,))
    assert free == Decision(Outcome.RETRY, Reason.CONNECT, 0.0, park=True, throttled=True)
    assert decide_attempt(failed, Spent(2, 10, probe=True), delays=(30.0,)).outcome is Outcome.DEAD


@pytest.mark.parametrize(
    ("used", "limit", "full", "sent_max", "dead_max"),
    [
        (10**9, 0, False, 100_000, None),
        (899, 1000, False, 0, None),
        (900, 1000, True, 0, 0),  # a fifth is less than one dead letter of 500
        (0, 30_000_000, False, 10_000, None),  # a fifth is 6,000,000 bytes, 600 each
        (29_000_000, 30_000_000, True, 10_000, 12_000),  # a fifth: 600 each, dead ones 500
        (0, 10**9, False, 100_000, None),
    ],
)
def test_near_its_limit_memory_is_kept_for_what_is_under_way(
    used: int, limit: int, full: bool, sent_max: int, dead_max: int | None
) -> None:
    memory = Memory(used, limit, dead_bytes=500)
    assert decide_room(memory, sent_max=100_000) == Room(full, sent_max, dead_max)
    assert decide_room(Memory(900, 1_000), sent_max=9).full  # without dead letters


@pytest.mark.parametrize(
    ("throttled", "outcome"), [(0, Outcome.RETRY), (9, Outcome.RETRY), (10, Outcome.DEAD)]
)
def test_a_destination_held_for_its_refusals_ends_no_callback_by_another_one(
    throttled: int, outcome: Outcome
) -> None:
    denied = classify(Answer(401, None), now_s=0)
    spent = Spent(0, throttled, probe=True, refused=True)
    decision = decide_attempt(denied, spent, delays=(30.0,))
    assert (decision.outcome, decision.throttled) == (outcome, outcome is Outcome.RETRY)
    other = classify(Answer(400, None), now_s=0)
    assert decide_attempt(other, spent, delays=(30.0,)).outcome is Outcome.DEAD
    faulty = Spent(0, throttled, probe=True)
    assert decide_attempt(denied, faulty, delays=(30.0,)).outcome is Outcome.DEAD
