from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import redis

from callbacks.batcher.audit import audit
from callbacks.batcher.inspector import Inspector
from callbacks.batcher.store import Batcher
from callbacks.model import Again, Claimed, Early, Go, Later, LaterWhy, Outcome, Refused, Settled
from tests.redis.support import (
    HOST,
    backdate,
    begin,
    claim,
    claim_one,
    counted,
    everything,
    key,
    now_ms,
    packed,
    put,
    settle,
)

Make = Callable[..., Batcher]


def test_the_open_gate_counts_the_attempt_and_leases_it(
    batcher: Batcher, client: redis.Redis, inspector: Inspector
) -> None:
    claimed = claim_one(batcher)
    go = begin(batcher, claimed)
    assert (go.attempt, go.retries, go.throttled, go.crashes) == (1, 0, 0, 0)
    assert go.packed == packed()
    lease = -client.zscore(key("processing"), "c-1")
    assert lease == go.now_ms + go.wait_ms + 15_000
    assert client.zscore(key(f"inflight:{HOST}"), "c-1") == lease
    assert counted(client, "attempts") == 1
    assert list(audit(inspector)) == []


def test_a_stale_token_changes_nothing_but_the_count(batcher: Batcher, client: redis.Redis) -> None:
    claim_one(batcher)
    before = everything(client)
    assert batcher.begin("c-1", "somebody else's") is Refused.STALE
    assert batcher.begin("unknown", "t") is Refused.STALE
    after = everything(client)
    assert counted(client, "stale") == 2
    for changed in ("{callbacks}:counters",):
        del before[changed], after[changed]
    unchanged = {k: v for k, v in after.items() if ":rate:" not in k}
    assert unchanged == {k: v for k, v in before.items() if ":rate:" not in k}


def test_the_same_message_three_times_begins_once(batcher: Batcher, client: redis.Redis) -> None:
    claimed = claim_one(batcher)
    begin(batcher, claimed)
    before = everything(client)
    assert batcher.begin(claimed.id, claimed.token) is Refused.BEGUN
    assert batcher.begin(claimed.id, claimed.token) is Refused.BEGUN
    assert everything(client) == before


def test_a_begin_whose_reply_was_lost_is_answered_again(
    batcher: Batcher, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callbacks.batcher.store.MISSED_MS", 60_000)  # a busy machine is not late
    claimed = claim_one(batcher)
    first = batcher.begin(claimed.id, claimed.token, nonce="n")
    before = everything(client)
    again = batcher.begin(claimed.id, claimed.token, nonce="n")
    assert isinstance(first, Go)
    assert isinstance(again, Go)
    assert (again.attempt, again.packed) == (first.attempt, first.packed)
    assert everything(client) == before


def missed(make_batcher: Make, client: redis.Redis, *, stagger: float) -> tuple[Batcher, Claimed]:
    """Begin one (interval 30 s, nonce `n`); its process is stopped past its instant."""
    batcher = make_batcher(min_interval=0, send_interval=stagger, destination_interval=30)
    claimed = claim_one(batcher)
    assert isinstance(batcher.begin(claimed.id, claimed.token, nonce="n"), Go)
    for name, field in (("rec:c-1", "at"), ("state", "send"), (f"dest:{HOST}", "send")):
        client.hincrby(key(name), field, -5_000)
    return batcher, claimed


@pytest.mark.parametrize("stagger", [0, 0.2])
def test_a_missed_instant_holds_back_neither_its_own_callback_nor_others(
    make_batcher: Make, client: redis.Redis, stagger: float
) -> None:
    batcher, claimed = missed(make_batcher, client, stagger=stagger)
    again = batcher.begin(claimed.id, claimed.token, nonce="n")
    assert isinstance(again, Go)
    assert (again.attempt, again.wait_ms) == (1, 0)
    assert int(client.hget(key("state"), "send") or 0) <= now_ms(client) + 200
    assert int(client.hget(key(f"dest:{HOST}"), "send") or 0) == again.now_ms + 30_000


def test_a_missed_instant_whose_next_one_is_far_is_given_up_and_counted_once(
    make_batcher: Make, client: redis.Redis, inspector: Inspector
) -> None:
    batcher, claimed = missed(make_batcher, client, stagger=0.2)
    at = taken(client)
    before = client.hget(key("state"), "send")
    assert batcher.begin(claimed.id, claimed.token, nonce="n") == Later(at, LaterWhy.PACE)
    assert client.hget(key("state"), "send") == before
    assert client.zcard(key(f"inflight:{HOST}")) == 0
    assert batcher.release(claimed.id, claimed.token, at).released
    assert list(audit(inspector)) == []
    client.delete(key(f"dest:{HOST}"))
    client.zadd(key("ring"), {HOST: 0}), client.zadd(key(f"lane:{HOST}"), {"c-1": 0})
    (anew,) = claim(batcher).callbacks
    assert begin(batcher, anew).attempt == 1
    assert counted(client, "attempts") == 1


def taken(client: redis.Redis) -> int:
    """Another callback to the destination has taken an instant; the next one is then."""
    at = now_ms(client) + 28_000
    client.hset(key(f"dest:{HOST}"), "send", at)
    return at


def test_who_has_given_an_instant_up_once_goes_late_the_next_time(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher, claimed = missed(make_batcher, client, stagger=0.2)
    taken(client)
    assert isinstance(batcher.begin(claimed.id, claimed.token, nonce="n"), Later)
    client.hdel(key(f"dest:{HOST}"), "send")
    assert isinstance(batcher.begin(claimed.id, claimed.token, nonce="m"), Go)
    client.hincrby(key("rec:c-1"), "at", -5_000)
    taken(client)
    late = batcher.begin(claimed.id, claimed.token, nonce="m")
    assert isinstance(late, Go)
    assert (late.attempt, late.wait_ms) == (1, 0)
    assert settle(batcher, claimed) is Settled.SENT
    assert counted(client, "attempts") == 1


def test_an_attempt_that_is_given_up_past_its_end_of_life_is_not_made_again(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher, claimed = missed(make_batcher, client, stagger=0.2)
    client.zadd(key("expiry"), {"c-1": 1})
    assert batcher.expire(10) == 0
    at = taken(client)
    assert batcher.begin(claimed.id, claimed.token, nonce="n") == Later(at, LaterWhy.PACE)
    assert batcher.begin(claimed.id, claimed.token) is Refused.EXPIRED


def test_a_pace_that_is_reserved_further_ahead_than_there_can_be_one_is_none(
    make_batcher: Make, client: redis.Redis
) -> None:
    """Redis' clock was set back by an hour."""
    batcher = make_batcher(min_interval=0)
    ahead = now_ms(client) + 3_600_000
    times = dict.fromkeys(("slot", "send", "last_batch", "earliest", "next_batch"), ahead)
    client.hset(key("state"), mapping=times)
    assert begin(batcher, claim_one(batcher)).wait_ms <= 250


def test_sends_are_reserved_a_stagger_apart_even_when_all_are_overdue(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher = make_batcher(min_interval=0, send_interval=0.04, destination_interval=0)
    for n in range(40):
        put(batcher, f"c-{n:02}", f"https://h{n}:443")
    overdue = list(claim(batcher).callbacks)
    for c in overdue:  # a stall: every slot has passed
        client.hincrby(key(f"rec:{c.id}"), "due", -8000)
    gates = [batcher.begin(c.id, c.token) for c in overdue]

    instants = [g.now_ms + g.wait_ms for g in gates if isinstance(g, Go)]
    assert len(instants) >= 6
    gaps = [y - x for x, y in pairwise(instants)]
    assert min(gaps) >= 40
    later = [g for g in gates if not isinstance(g, Go)]
    assert len(later) >= 20
    assert {type(g) for g in later} == {Later}
    assert {g.why for g in later if isinstance(g, Later)} == {LaterWhy.PACE}


def test_sends_to_one_destination_keep_its_interval_retries_included(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher = make_batcher(min_interval=0, send_interval=0, destination_interval=0.1)
    for n in range(6):
        put(batcher, f"c-{n}")
    batch = claim(batcher).callbacks
    for c in batch:
        client.hincrby(key(f"rec:{c.id}"), "due", -8000)
    first, second, third, fourth = (batcher.begin(c.id, c.token) for c in batch[:4])
    assert isinstance(first, Go)
    instants = [g.now_ms + g.wait_ms for g in (first, second, third, fourth) if isinstance(g, Go)]
    assert all(y - x >= 100 for x, y in pairwise(instants))
    settle(batcher, batch[0], Outcome.RETRY, delay_ms=0)
    retry = batcher.begin(batch[0].id, batch[0].token)
    if isinstance(retry, Go):
        assert retry.now_ms + retry.wait_ms - instants[-1] >= 100
    else:
        assert isinstance(retry, Later)
        assert retry.due_ms - instants[-1] >= 100


def test_a_message_that_comes_early_waits_for_its_slot_or_for_another_message(
    batcher: Batcher, client: redis.Redis
) -> None:
    claimed = claim_one(batcher)
    client.hincrby(key("rec:c-1"), "due", 90_000)  # the worker's clock is wrong
    before = everything(client)
    gate = batcher.begin(claimed.id, claimed.token)
    assert isinstance(gate, Early)
    assert gate.wait_ms == pytest.approx(90_000, abs=5_000)
    assert everything(client) == before
    client.hincrby(key("rec:c-1"), "due", -89_900)
    assert 0 < begin(batcher, claimed).wait_ms <= 100


def test_a_full_destination_is_later_and_not_claimed_from_until_a_request_ends(
    make_batcher: Make, client: redis.Redis, inspector: Inspector
) -> None:
    batcher = make_batcher(
        min_interval=0, send_interval=0, destination_interval=0, destination_concurrency=2
    )
    for n in range(5):
        put(batcher, f"c-{n}")
    a, b, c, d, _ = claim(batcher).callbacks
    begin(batcher, a), begin(batcher, b)
    gate = batcher.begin(c.id, c.token)
    assert isinstance(gate, Later)
    assert gate.why is LaterWhy.FULL
    assert batcher.release(c.id, c.token, gate.due_ms, why=gate.why).released
    assert batcher.release(d.id, d.token, gate.due_ms, why=gate.why).released
    assert claim(batcher).callbacks == ()
    assert settle(batcher, a) is Settled.SENT
    assert [x.id for x in claim(batcher).callbacks] == ["c-2", "c-3"]
    assert counted(client, "attempts") == 2
    assert list(audit(inspector)) == []


def test_a_concurrency_lease_of_a_dead_worker_frees_itself(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher = make_batcher(
        min_interval=0, send_interval=0, destination_interval=0, destination_concurrency=1
    )
    put(batcher, "c-1"), put(batcher, "c-2")
    a, b = claim(batcher).callbacks
    begin(batcher, a)
    assert isinstance(batcher.begin(b.id, b.token), Later)
    backdate(client, f"inflight:{HOST}", a.id, 20_000)
    assert isinstance(batcher.begin(b.id, b.token), Go)


def test_while_paused_nothing_begins(batcher: Batcher) -> None:
    claimed = claim_one(batcher)
    for pause, resume in ((None, None), (HOST, HOST)):
        batcher.pause(pause)
        gate = batcher.begin(claimed.id, claimed.token)
        assert isinstance(gate, Later)
        assert gate.why is LaterWhy.PAUSED
        batcher.resume(resume)
    begin(batcher, claimed)


def test_past_its_age_nothing_begins(batcher: Batcher, client: redis.Redis) -> None:
    claimed = claim_one(batcher)
    client.zadd(key("expiry"), {"c-1": 1})
    assert batcher.begin(claimed.id, claimed.token) is Refused.EXPIRED
    assert batcher.expire(10) == 1
    assert batcher.begin(claimed.id, claimed.token) is Refused.STALE


def test_with_pacing_off_nobody_waits(make_batcher: Make) -> None:
    batcher = make_batcher(send_interval=0, destination_interval=0, destination_concurrency=0)
    for n in range(50):
        put(batcher, f"c-{n}")
    waits = [begin(batcher, c).wait_ms for c in claim(batcher).callbacks]
    assert waits == [0] * 50


def suspects(batcher: Batcher, client: redis.Redis, **crashes: int) -> list[Claimed]:
    """Claim callbacks, each to its own destination, that have crashed this often."""
    for id, count in crashes.items():
        put(batcher, id, f"https://{id}.example:443")
        if count:
            client.hset(key(f"rec:{id}"), "c", count)
    return sorted(claim(batcher).callbacks, key=lambda claimed: claimed.id)


def unpaced(make_batcher: Make) -> Batcher:
    return make_batcher(send_interval=0, destination_interval=0)


def refused(batcher: Batcher, claimed: Claimed) -> bool:
    gate = batcher.begin(claimed.id, claimed.token)
    return isinstance(gate, Later) and gate.why is LaterWhy.SUSPECT


def test_the_last_try_is_made_while_no_other_suspect_is_in_flight(
    make_batcher: Make, client: redis.Redis, inspector: Inspector
) -> None:
    batcher = unpaced(make_batcher)
    last, next_last, once, never = suspects(batcher, client, a=2, b=2, c=1, d=0)
    begin(batcher, last)
    assert refused(batcher, next_last)
    assert refused(batcher, once)
    begin(batcher, never)  # it is not suspected
    assert settle(batcher, last) is Settled.SENT
    begin(batcher, next_last)
    assert list(audit(inspector)) == []


def test_a_last_try_waits_for_the_suspects_in_flight_and_no_more_begin(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher = unpaced(make_batcher)
    last, once, late = suspects(batcher, client, a=2, b=1, c=1)
    begin(batcher, once)
    assert batcher.begin(last.id, last.token) == Again(200)  # its thread waits for them
    assert refused(batcher, late)
    assert settle(batcher, once) is Settled.SENT
    begin(batcher, last)
    assert refused(batcher, late)
    assert settle(batcher, last) is Settled.SENT
    begin(batcher, late)


def test_a_trial_ends_with_its_lease(make_batcher: Make, client: redis.Redis) -> None:
    batcher = unpaced(make_batcher)
    first, second = suspects(batcher, client, a=2, b=2)
    begin(batcher, first)
    lease = -int(client.zscore(key("processing"), "a") or 0)
    assert client.pttl(key("trial")) == pytest.approx(lease - now_ms(client), abs=1_000)
    client.delete(key("trial"))  # what the server does then
    client.zadd(key("suspects"), {"a": 1})
    begin(batcher, second)
    assert settle(batcher, first) is Settled.SENT
    assert client.get(key("trial")) == b"b"  # a late settle does not end another's trial


def test_a_repeated_begin_of_a_trial_is_not_refused_by_itself(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher = unpaced(make_batcher)
    (only,) = suspects(batcher, client, a=2)
    assert isinstance(batcher.begin(only.id, only.token, nonce="n"), Go)
    assert isinstance(batcher.begin(only.id, only.token, nonce="n"), Go)


def test_who_slept_past_its_lease_has_lost_its_place_in_flight(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher = make_batcher(
        min_interval=0, send_interval=0, destination_interval=0, destination_concurrency=1
    )
    put(batcher, "c-1"), put(batcher, "c-2")
    a, b = claim(batcher).callbacks
    assert isinstance(batcher.begin(a.id, a.token, nonce="n"), Go)
    client.hincrby(key("rec:c-1"), "at", -15_000)  # its process is stopped for this long
    backdate(client, f"inflight:{HOST}", a.id, 15_000)
    assert isinstance(batcher.begin(b.id, b.token), Go)
    before = everything(client)
    assert batcher.begin(a.id, a.token, nonce="n") is Refused.BEGUN
    assert everything(client) == before
