from __future__ import annotations

from collections.abc import Callable
from itertools import count as numbers
from typing import Any

import pytest
import redis

from callbacks.batcher.audit import audit
from callbacks.batcher.inspector import Inspector, find
from callbacks.batcher.store import Batcher
from callbacks.model import (
    Breaker,
    Cancelled,
    Effect,
    Feedback,
    Outcome,
    Reason,
    Refused,
    Settled,
    Settlement,
    State,
)
from tests.redis.support import (
    HOST,
    HOUR_MS,
    begin,
    claim,
    claim_one,
    counted,
    everything,
    key,
    now_ms,
    put,
    settle,
    settlement,
    to_head,
)

Make = Callable[..., Batcher]


def test_sent_drops_the_body_and_keeps_a_short_record(
    batcher: Batcher, client: redis.Redis, inspector: Inspector
) -> None:
    claimed = claim_one(batcher)
    begin(batcher, claimed)
    assert settle(batcher, claimed) is Settled.SENT
    assert not client.exists(key("cb:c-1"), key("processing"), key(f"inflight:{HOST}"))
    assert not client.exists(key("expiry"), key("ring"), key(f"lane:{HOST}"))
    status = find(batcher.scripts, "c-1")
    assert status is not None
    assert (status.state, status.attempts) == (State.SENT, 1)
    assert counted(client, "sent") == 1
    assert list(audit(inspector)) == []


def test_a_retry_keeps_its_place_in_processing_with_a_lease_past_its_wait(
    batcher: Batcher, client: redis.Redis, inspector: Inspector
) -> None:
    claimed = claim_one(batcher)
    begin(batcher, claimed)
    assert settle(batcher, claimed, Outcome.RETRY, delay_ms=30_000) is Settled.RETRY
    record = client.hgetall(key("rec:c-1"))
    due = int(record[b"due"])
    assert client.zscore(key("processing"), "c-1") == due
    assert not client.exists(key(f"inflight:{HOST}"))
    status = find(batcher.scripts, "c-1")
    assert status is not None
    assert (status.state, status.phase, status.retries) == (State.PROCESSING, "retry", 1)
    assert status.next_attempt_at == due / 1000
    assert counted(client, "retried") == 1
    assert list(audit(inspector)) == []


def test_a_long_wait_is_waited_in_the_lane(batcher: Batcher, inspector: Inspector) -> None:
    claimed = claim_one(batcher)
    begin(batcher, claimed)
    parked = settle(batcher, claimed, Outcome.RETRY, delay_ms=HOUR_MS // 2, park=True)
    assert parked is Settled.QUEUED
    status = find(batcher.scripts, "c-1")
    assert status is not None
    assert (status.state, status.attempts, status.retries) == (State.QUEUED, 1, 1)
    assert list(audit(inspector)) == []


def test_the_last_failure_goes_to_the_dead_letters_with_its_reason_and_body(
    batcher: Batcher, client: redis.Redis, inspector: Inspector
) -> None:
    claimed = claim_one(batcher)
    begin(batcher, claimed)
    assert settle(batcher, claimed, Outcome.DEAD, detail="HTTP 503") is Settled.DEAD
    status = find(batcher.scripts, "c-1")
    assert status is not None
    assert (status.state, status.reason, status.status) == (State.DEAD, "server_error", 503)
    assert status.detail == "HTTP 503"
    assert client.exists(key("cb:c-1"))
    assert counted(client, "dead") == 1
    assert list(audit(inspector)) == []


@pytest.mark.parametrize(
    ("outcome", "result"),
    [
        (Outcome.SENT, Settled.SENT),
        (Outcome.RETRY, Settled.RETRY),
        (Outcome.DEAD, Settled.DEAD),
    ],
)
def test_a_repeated_settle_gets_the_first_result_and_counts_once(
    batcher: Batcher, client: redis.Redis, outcome: Outcome, result: Settled
) -> None:
    claimed = claim_one(batcher)
    begin(batcher, claimed)
    assert settle(batcher, claimed, outcome, delay_ms=60_000) is result
    before = everything(client)
    for other in (outcome, Outcome.SENT, Outcome.DEAD):
        assert settle(batcher, claimed, other) is result
    assert everything(client) == before


def test_a_stale_token_or_attempt_settles_nothing(batcher: Batcher, client: redis.Redis) -> None:
    claimed = claim_one(batcher)
    begin(batcher, claimed)
    kept = ("processing", "rec:c-1", "cb:c-1", "expiry", f"inflight:{HOST}", "dead", "sent")

    def state() -> list[object]:
        contents = everything(client)
        return [contents.get(key(name)) for name in kept]

    before = state()
    assert settle(batcher, claimed, attempt=2) is Settled.STALE
    stale = type(claimed)(claimed.id, "old", claimed.slot_ms)
    assert settle(batcher, stale) is Settled.STALE
    assert state() == before
    assert counted(client, "stale") == 2
    assert counted(client, "sent") == 0


def test_a_settle_after_the_lease_was_taken_back_is_stale(
    batcher: Batcher, client: redis.Redis
) -> None:
    claimed = claim_one(batcher)
    begin(batcher, claimed)
    client.zadd(key("processing"), {"c-1": 1})
    batcher.reclaim(10, chance=0.5)
    assert settle(batcher, claimed) is Settled.STALE
    status = find(batcher.scripts, "c-1")
    assert status is not None
    assert status.state is State.QUEUED


def test_a_throttled_answer_does_not_use_up_a_retry(batcher: Batcher) -> None:
    claimed = claim_one(batcher)
    begin(batcher, claimed)
    settle(batcher, claimed, Outcome.RETRY, delay_ms=0, throttled=True)
    go = begin_when_due(batcher, claimed)
    assert (go.attempt, go.retries, go.throttled) == (2, 0, 1)


def begin_when_due(batcher: Batcher, claimed: object):  # type: ignore[no-untyped-def]
    batcher.scripts.client.hset(key("state"), "send", 0)
    batcher.scripts.client.hset(key(f"dest:{HOST}"), "send", 0)
    return begin(batcher, claimed)  # type: ignore[arg-type]


def test_the_record_tells_the_whole_story(batcher: Batcher) -> None:
    claimed = claim_one(batcher)
    for attempt in (1, 2):
        begin_when_due(batcher, claimed)
        settle(batcher, claimed, Outcome.RETRY, attempt, delay_ms=0)
    begin_when_due(batcher, claimed)
    settle(batcher, claimed, attempt=3)
    status = find(batcher.scripts, "c-1")
    assert status is not None
    assert [(a.attempt, a.outcome) for a in status.history] == [
        (1, "retry"),
        (2, "retry"),
        (3, "sent"),
    ]
    assert status.reason is None


def test_a_cancel_during_the_request_allows_no_retry(
    batcher: Batcher, client: redis.Redis, inspector: Inspector
) -> None:
    claimed = claim_one(batcher)
    begin(batcher, claimed)
    batcher.cancel("c-1")
    assert settle(batcher, claimed, Outcome.RETRY, delay_ms=1000) is Settled.CANCELLED
    assert settle(batcher, claimed, Outcome.RETRY, delay_ms=1000) is Settled.CANCELLED
    assert counted(client, "cancelled") == 1
    assert list(audit(inspector)) == []


def test_settling_works_where_memory_is_full(
    make_batcher: Make, client: redis.Redis, inspector: Inspector
) -> None:
    batcher = make_batcher(send_interval=0, destination_interval=0)
    for n in range(3):
        put(batcher, f"c-{n}")
    batch = claim(batcher).callbacks
    for c in batch:
        begin(batcher, c)
    client.config_set("maxmemory", 1)
    for c, outcome in zip(batch, Outcome, strict=True):
        assert settle(batcher, c, outcome, delay_ms=5) is not Settled.STALE
    client.config_set("maxmemory", 0)
    assert list(audit(inspector)) == []


def test_refusing_and_cancelling_work_where_memory_is_full(
    batcher: Batcher, client: redis.Redis
) -> None:
    claimed = claim_one(batcher)
    begin(batcher, claimed)
    client.config_set("maxmemory", 1)
    assert batcher.begin("c-1", "stale") is Refused.STALE
    assert settle(batcher, claimed, attempt=7) is Settled.STALE
    assert batcher.cancel("c-1") is Cancelled.IN_FLIGHT
    assert settle(batcher, claimed, Outcome.RETRY) is Settled.CANCELLED


def test_a_reason_is_kept_for_each_way_to_die(batcher: Batcher) -> None:
    claimed = claim_one(batcher)
    begin(batcher, claimed)
    settle(batcher, claimed, Outcome.DEAD, reason=Reason.GONE)
    status = find(batcher.scripts, "c-1")
    assert status is not None
    assert status.reason == "gone"


# What a destination answers


DENIED = Feedback(Effect.ALIVE)
NUMBERS = numbers()
GIVEN = {"send_interval": 0, "destination_interval": 0, "min_interval": 0}


def answer_all(
    batcher: Batcher, status: int, count: int = 1, outcome: Outcome = Outcome.DEAD, **more: Any
) -> Settlement:
    """Send callbacks one after the other; each gets this status. Returns the last settlement."""
    done = None
    given: dict[str, Any] = {"reason": Reason.CLIENT_ERROR, "feedback": DENIED} | more
    for _ in range(count):
        claimed = claim_one(batcher, f"c-{next(NUMBERS)}")
        go = begin(batcher, claimed)
        done = settlement(batcher, claimed, outcome, go.attempt, status=status, **given)
    assert done is not None
    return done


def test_so_many_refusals_in_a_row_open_the_breaker_and_the_rest_waits(
    make_batcher: Make, client: redis.Redis, inspector: Inspector
) -> None:
    batcher = make_batcher(refused_hold=3, breaker_failures=0, **GIVEN)
    assert answer_all(batcher, 401, 2).breaker is None
    opened = answer_all(batcher, 404)
    assert (opened.breaker, opened.failures) == (Breaker.REFUSED, 3)
    assert opened.until_ms > now_ms(client) + 29_000
    put(batcher, "late")
    assert claim(batcher).callbacks == ()
    one = inspector.destination(HOST)
    assert (one.breaker, one.refuses, one.hold_why) == ("open", True, "breaker")
    assert (one.last, one.last_status, one.failures) == ("client_error", 404, {"client_error": 3})
    assert list(audit(inspector)) == []


@pytest.mark.parametrize("other", [200, 400, 500])
def test_another_answer_in_between_starts_the_row_anew(make_batcher: Make, other: int) -> None:
    batcher = make_batcher(refused_hold=3, **GIVEN)
    answer_all(batcher, 401, 2)
    if other == 200:
        answer_all(batcher, 200, outcome=Outcome.SENT, reason=None, feedback=Feedback(Effect.OK))
    else:
        answer_all(batcher, other)
    assert answer_all(batcher, 403, 2).breaker is None
    assert answer_all(batcher, 403).breaker is Breaker.REFUSED


def test_no_answer_in_between_does_not(make_batcher: Make) -> None:
    batcher = make_batcher(refused_hold=3, **GIVEN)
    answer_all(batcher, 401, 2)
    answer_all(batcher, 0, reason=Reason.RESET, feedback=Feedback(Effect.FAULT, transport=True))
    assert answer_all(batcher, 401).breaker is Breaker.REFUSED


def test_no_number_of_refusals_holds_a_destination_where_that_is_off(make_batcher: Make) -> None:
    assert answer_all(make_batcher(refused_hold=0, **GIVEN), 401, 30).breaker is None


def probe(batcher: Batcher, client: redis.Redis, status: int, outcome: Outcome) -> Settlement:
    client.hset(key(f"dest:{HOST}"), "hold", 1)
    to_head(client)
    (claimed,) = claim(batcher).callbacks
    go = begin(batcher, claimed)
    assert (go.probe, go.refused) == (True, True)
    reason = None if outcome is Outcome.SENT else Reason.CLIENT_ERROR
    feedback = Feedback(Effect.OK) if outcome is Outcome.SENT else DENIED
    more = {"park": True, "throttled": True} if outcome is Outcome.RETRY else {}
    return settlement(
        batcher,
        claimed,
        outcome,
        go.attempt,
        reason=reason,
        feedback=feedback,
        status=status,
        **more,
    )


def test_a_refused_probe_opens_it_again_for_longer_and_ends_no_callback(
    make_batcher: Make, client: redis.Redis, inspector: Inspector
) -> None:
    batcher = make_batcher(refused_hold=1, **GIVEN)
    answer_all(batcher, 401)
    put(batcher, "a")
    put(batcher, "b")
    again = probe(batcher, client, 401, Outcome.RETRY)
    assert again.breaker is Breaker.REFUSED
    assert again.until_ms > now_ms(client) + 55_000
    assert again.settled is Settled.QUEUED
    assert inspector.destination(HOST).waiting == 2
    closed = probe(batcher, client, 200, Outcome.SENT)
    assert closed.breaker is Breaker.CLOSED
    assert client.zcard(key("troubled")) == 0
    one = inspector.destination(HOST)
    assert (one.breaker, one.refuses, one.refused) == ("closed", False, 0)
    assert list(audit(inspector)) == []


def test_a_refusal_that_was_in_flight_leaves_the_breaker_open(
    make_batcher: Make, client: redis.Redis, inspector: Inspector
) -> None:
    batcher = make_batcher(refused_hold=1, **GIVEN)
    put(batcher, "a")
    put(batcher, "b")
    one, other = claim(batcher).callbacks
    begin(batcher, one)
    begin(batcher, other)
    for claimed in (one, other):
        given = {"reason": Reason.CLIENT_ERROR, "feedback": DENIED, "status": 401}
        done = settlement(batcher, claimed, Outcome.DEAD, 1, **given)
        assert done.breaker is (Breaker.REFUSED if claimed is one else None)
    assert inspector.destination(HOST).breaker == "open"


@pytest.mark.parametrize(("status", "count"), [(400, 3), (302, 3), (429, 1)])
def test_a_destination_in_trouble_is_named_until_a_2xx(
    make_batcher: Make, client: redis.Redis, status: int, count: int
) -> None:
    batcher = make_batcher(**GIVEN)
    answer_all(batcher, status, count)
    assert client.zrange(key("troubled"), 0, -1) == [HOST.encode()]
    if status == 429:  # a minute without another one
        client.hset(key(f"dest:{HOST}"), "limited", now_ms(client) - 61_000)
    answer_all(batcher, 200, outcome=Outcome.SENT, reason=None, feedback=Feedback(Effect.OK))
    assert client.zcard(key("troubled")) == 0


def test_one_refusal_is_no_trouble(make_batcher: Make, client: redis.Redis) -> None:
    answer_all(make_batcher(**GIVEN), 400)
    assert client.zcard(key("troubled")) == 0
