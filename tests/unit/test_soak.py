"""The soak is only worth its time if it notices that something is wrong."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

from callbacks.batcher.inspector import Attempt, Status
from callbacks.batcher.routes import shard_of
from callbacks.model import Cancelled, State
from tests.soak.plan import DeedKind, FaultKind, Faults, Mood, make_plan, mood, name
from tests.soak.verdict import Cancel, Record, Repeat, Request, Risk, Seen, Verdict, judge

SENT = Attempt(1, 1.0, "sent", 200, None, 0.03)
BUSY = Attempt(1, 1.0, "retry", 503, "server_error", 0.03)
CRASHED = Attempt(1, 1.0, "retry", None, "crashed", 8.0)


def record(*history: Attempt, state: State = State.SENT, **more: object) -> Record:
    reasons = [entry.reason for entry in history]
    status = Status(
        id="c-1",
        state=state,
        phase=state.value,
        destination="http://127.0.0.1:80",
        attempts=len(history),
        retries=sum(entry.outcome == "retry" and entry.reason != "crashed" for entry in history),
        crashes=reasons.count("crashed"),
        status=history[-1].status if history else None,
        reason=reasons[-1] if history else None,
        detail="",
        next_attempt_at=None,
        expires_at=None,
        ended_at=107.5,
        history=history,
    )
    return Record(replace(status, **more), 0)  # type: ignore[arg-type]


def seen(*said: Mood, of: Record | None, **more: object) -> Seen:
    """The callback c-1 with one request for each answer, and counters that match its record."""
    status = of.status if of else None
    totals = {
        "accepted": 1,
        "sent": int(status is not None and status.state is State.SENT),
        "dead": int(status is not None and status.state is State.DEAD),
        "cancelled": int(status is not None and status.state is State.CANCELLED),
        "replayed": 0,
        "purged": 0,
        "attempts": status.attempts if status else 0,
        "retried": status.retries if status else 0,
        "throttled": 0,
        "recovered": status.crashes if status else 0,
    }
    made = Seen(
        accepted={"c-1": 100.0},
        requests=[Request("c-1", n, mood) for n, mood in enumerate(said, start=1)],
        records={"c-1": of} if of else {},
        totals=totals,
        waiting=0,
    )
    return replace(made, **more)  # type: ignore[arg-type]


def kinds(verdict: Verdict) -> set[str]:
    return set(verdict.wrong)


def test_a_callback_that_was_sent_once_is_fine_and_its_time_is_known() -> None:
    verdict = judge(seen(Mood.OK, of=record(SENT)))
    assert verdict.lines() == []
    assert verdict.took_s == [7.5]
    assert not verdict.repeats


def test_a_retry_after_a_503_is_no_repeat() -> None:
    verdict = judge(seen(Mood.BUSY, Mood.OK, of=record(BUSY, replace(SENT, attempt=2))))
    assert verdict.lines() == []
    assert not verdict.repeats


def test_a_lost_callback_is_named() -> None:
    verdict = judge(seen(Mood.OK, of=None))
    assert "lost: c-1 was accepted and is in no state" in verdict.lines()


def test_a_callback_that_never_came_to_its_end_is_named() -> None:
    verdict = judge(seen(of=record(state=State.QUEUED), waiting=1))
    assert kinds(verdict) == {"unsettled"}


def test_one_that_is_called_sent_and_was_never_received_is_named() -> None:
    assert "not received" in kinds(judge(seen(of=record(SENT))))
    assert "not received" in kinds(judge(seen(Mood.BUSY, of=record(SENT))))


def test_a_repeat_after_a_crash_is_explained_by_it() -> None:
    verdict = judge(seen(Mood.OK, Mood.OK, of=record(CRASHED, replace(SENT, attempt=2))))
    assert verdict.lines() == []
    assert verdict.repeats == {Repeat.CRASHED: 1}


def test_a_2xx_that_its_sender_did_not_see_in_time_is_explained() -> None:
    late = replace(BUSY, status=None, reason="timeout")
    verdict = judge(seen(Mood.OK, Mood.OK, of=record(late, replace(SENT, attempt=2))))
    assert verdict.lines() == []
    assert verdict.repeats == {Repeat.TOO_LATE: 1}


def test_a_second_request_of_one_attempt_is_an_unexplained_repeat() -> None:
    twice = [Request("c-1", 1, Mood.OK)] * 2
    verdict = judge(seen(of=record(SENT), requests=twice))
    assert "unexplained repeat: c-1 attempt 1 made 2 requests" in verdict.lines()


def test_a_request_without_a_recorded_attempt_is_an_unexplained_repeat() -> None:
    verdict = judge(seen(Mood.OK, Mood.OK, of=record(SENT)))
    assert "unexplained repeat: c-1 attempt 2 is not in its history" in verdict.lines()


def test_a_2xx_recorded_as_a_failure_is_an_unexplained_repeat() -> None:
    reset = replace(BUSY, status=None, reason="reset")
    verdict = judge(seen(Mood.OK, Mood.OK, of=record(reset, replace(SENT, attempt=2))))
    assert kinds(verdict) == {"unexplained repeat"}


def test_a_status_that_no_receiver_gave_is_named() -> None:
    verdict = judge(seen(Mood.OK, Mood.OK, of=record(BUSY, replace(SENT, attempt=2))))
    assert "never said" in kinds(verdict)


def test_a_repeat_is_explained_by_a_failover_of_its_shard_at_that_time() -> None:
    twice = [Request("c-1", 1, Mood.OK, at_s=50.0), Request("c-1", 1, Mood.OK, at_s=70.0)]
    good = seen(of=record(SENT), requests=twice)
    assert set(judge(good).wrong) == {"unexplained repeat", "over budget"}
    shard = shard_of(record(SENT).status.destination, 4)
    risk = Risk(55.0, 58.0, frozenset({shard}))
    verdict = judge(replace(good, shards=4, risks=[risk]))
    assert verdict.lines() == []
    assert verdict.repeats == {Repeat.FAILED_OVER: 1}
    for wrong in (Risk(60.0, 61.0, risk.shards), Risk(55.0, 58.0, frozenset({(shard + 1) % 4}))):
        assert kinds(judge(replace(good, shards=4, risks=[wrong]))) == kinds(judge(good))


def test_no_failover_explains_a_loss() -> None:
    risk = Risk(0.0, 1_000.0, frozenset({0}))
    assert kinds(judge(replace(seen(Mood.OK, of=None), risks=[risk]))) == {"lost"}
    assert "not received" in kinds(judge(replace(seen(of=record(SENT)), risks=[risk])))


def test_more_than_the_budgets_allow_is_named() -> None:
    history = [replace(BUSY, attempt=n) for n in (1, 2, 3)] + [replace(SENT, attempt=4)]
    moods = (Mood.BUSY, Mood.BUSY, Mood.BUSY, Mood.OK)
    assert kinds(judge(seen(*moods, of=record(*history)))) == {"over budget"}
    hidden = record(*history, retries=2)
    assert "over budget" in kinds(judge(seen(*moods, of=hidden)))


def test_a_replayed_callback_has_the_budgets_of_its_lives() -> None:
    history = [replace(BUSY, attempt=n) for n in (1, 2, 3)]
    dead = record(*history, state=State.DEAD, retries=2)
    now = record(*history, replace(SENT, attempt=4), retries=0)
    moods = (Mood.BUSY, Mood.BUSY, Mood.BUSY, Mood.OK)
    good = seen(*moods, of=now)
    totals = dict(good.totals) | {"dead": 1, "replayed": 1, "retried": 2}
    good = replace(good, totals=totals, lives={"c-1": [dead]})
    assert judge(good).lines() == []
    assert kinds(judge(replace(good, lives={}))) == {"over budget", "unbalanced"}


def test_a_purged_callback_is_not_lost_and_must_not_come_back() -> None:
    dead = record(replace(BUSY, outcome="dead"), state=State.DEAD, retries=0)
    gone = replace(seen(Mood.BUSY, of=None), purged={"c-1": dead})
    totals = dict(gone.totals) | {"dead": 1, "purged": 1, "attempts": 1}
    gone = replace(gone, totals=totals)
    assert judge(gone).lines() == []
    assert "not purged" in kinds(judge(replace(gone, records={"c-1": dead})))


def test_an_attempt_that_was_given_up_and_then_cancelled_may_stay_counted() -> None:
    cancelled = seen(of=record(state=State.CANCELLED, reason="cancelled"))
    cancelled = replace(cancelled, cancels={"c-1": Cancel(Cancelled.CANCELLED, 0)})
    counted = replace(cancelled, totals=dict(cancelled.totals) | {"attempts": 1})
    assert judge(counted).lines() == []
    counted = replace(cancelled, totals=dict(cancelled.totals) | {"attempts": 2})
    assert kinds(judge(counted)) == {"unbalanced"}
    good = seen(Mood.OK, of=record(SENT))
    counted = replace(good, totals=dict(good.totals) | {"attempts": 2})
    assert kinds(judge(counted)) == {"unbalanced"}


def test_a_cancel_is_final() -> None:
    cancelled = record(state=State.CANCELLED, reason="cancelled")
    said = {"c-1": Cancel(Cancelled.CANCELLED, 0)}
    assert judge(replace(seen(of=cancelled), cancels=said)).lines() == []
    assert kinds(judge(seen(of=cancelled))) == {"cancelled"}
    assert kinds(judge(replace(seen(Mood.OK, of=record(SENT)), cancels=said))) == {"not cancelled"}
    flying = {"c-1": Cancel(Cancelled.IN_FLIGHT, 1)}
    assert judge(replace(seen(Mood.OK, of=record(SENT)), cancels=flying)).lines() == []
    twice = record(BUSY, replace(SENT, attempt=2))
    later = replace(seen(Mood.BUSY, Mood.OK, of=twice), cancels=flying)
    assert kinds(judge(later)) == {"not cancelled"}


def test_totals_that_do_not_balance_are_named() -> None:
    good = seen(Mood.OK, of=record(SENT))
    verdict = judge(replace(good, totals=dict(good.totals) | {"sent": 2}))
    assert verdict.lines() == ["unbalanced: sent is 2, the records say 1"]
    verdict = judge(replace(good, audit=["c-1: is in no structure"]))
    assert verdict.lines() == ["audit: c-1: is in no structure"]


def test_one_that_was_sent_and_never_accepted_is_named() -> None:
    good = seen(Mood.OK, of=record(SENT))
    stranger = Request("c-2", 1, Mood.OK)
    assert kinds(judge(replace(good, requests=[*good.requests, stranger]))) == {"stranger"}


def test_a_plan_follows_from_its_seed_and_has_every_fault() -> None:
    plan = make_plan(7, minutes=0.4)
    assert plan == make_plan(7, minutes=0.4)
    assert plan != make_plan(8, minutes=0.4)
    for minutes, which in product((0.4, 1.5), Faults):
        made = make_plan(7, minutes=minutes, which=which)
        assert {fault.kind for fault in made.faults} == set(which.kinds)
        assert {deed.kind for deed in made.deeds} == set(DeedKind)
    assert {kind for which in Faults for kind in which.kinds} == set(FaultKind)
    numbers = [n for b in plan.bursts for n in range(b.first, b.first + b.size)]
    assert numbers == list(range(plan.count))


def test_the_receiver_fails_one_request_in_twenty_in_each_way() -> None:
    moods = [mood(7, name(n), 1)[0] for n in range(5_000)]
    failed = [each for each in moods if each is not Mood.OK]
    assert 200 < len(failed) < 300
    assert set(failed) == {Mood.BUSY, Mood.RESET, Mood.SILENT}
