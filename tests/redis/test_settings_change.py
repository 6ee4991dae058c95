"""Settings may change between restarts: stored values are judged by the current ones."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from callbacks.batcher.audit import audit
from callbacks.batcher.inspector import Inspector
from callbacks.batcher.store import Batcher
from callbacks.model import ClaimResult, Outcome, Recovered
from callbacks.worker import duties
from tests.redis.support import backdate, begin, claim, claim_one, key, now_ms, put, settle

Make = Callable[..., Batcher]
HOUR = 3_600


@pytest.mark.parametrize(("before", "after"), [(HOUR, 60), (60, HOUR)], ids=["lower", "higher"])
def test_a_claim_of_before_is_woken_at_once_and_taken_back_after_the_new_time(
    make_batcher: Make, client: redis.Redis, inspector: Inspector, before: int, after: int
) -> None:
    claimed = claim_one(make_batcher(stuck_after=before))
    batcher = make_batcher(stuck_after=after)
    backdate(client, "processing", "c-1", 1_500)
    assert batcher.wake(10, repeats=10).named == (("c-1", claimed.token),)
    backdate(client, "processing", "c-1", (after - 2) * 1_000 - 1_000)
    assert batcher.reclaim(10, chance=0) == Recovered(0, 0, 0)
    backdate(client, "processing", "c-1", 3_000)
    assert batcher.reclaim(10, chance=0) == Recovered(1, 0, 0)
    assert list(audit(inspector)) == []


def test_a_retry_of_before_is_woken_and_taken_back_alike(
    make_batcher: Make, client: redis.Redis
) -> None:
    old = make_batcher(stuck_after=HOUR)
    claimed = claim_one(old)
    begin(old, claimed)
    settle(old, claimed, Outcome.RETRY, delay_ms=0)
    batcher = make_batcher(stuck_after=60)
    backdate(client, "processing", "c-1", 1_500)
    assert batcher.wake(10, repeats=10).named == (("c-1", claimed.token),)
    backdate(client, "processing", "c-1", 60_000)
    assert batcher.reclaim(10, chance=0) == Recovered(1, 0, 0)


def test_an_attempt_keeps_the_lease_of_its_own_deadline(
    make_batcher: Make, client: redis.Redis
) -> None:
    old, batcher = make_batcher(deadline=100, stuck_after=HOUR), make_batcher(deadline=1)
    begin(old, claim_one(old))
    client.zincrby(key("processing"), 104_000, "c-1")  # of 105 s, one is left
    assert batcher.reclaim(10, chance=0) == Recovered(0, 0, 0)
    client.zincrby(key("processing"), 2_000, "c-1")
    assert batcher.reclaim(10, chance=0) == Recovered(1, 0, 0)


def test_a_destination_does_not_wait_for_the_longer_interval_of_before(
    make_batcher: Make, client: redis.Redis, inspector: Inspector
) -> None:
    given = {"adaptive": "false", "send_interval": 0, "min_interval": 0}
    old = make_batcher(**given, destination_interval=600)
    for name in ("a", "b"):
        for n in range(2):
            put(old, f"{name}-{n}", f"https://{name}.example:443")
    put(old, "u-0", "https://u.example:443", proven=False)
    client.hset(key("dest:https://u.example:443"), "slot", now_ms(client) + 600_000)
    put(old, "u-1", "https://u.example:443", proven=False)
    old.repair_ring("https://u.example:443")
    put(old, "parked", "https://c.example:443", delay_ms=HOUR * 1_000)
    for claimed in claim(old).callbacks:
        begin(old, claimed)
        settle(old, claimed)
    batcher = make_batcher(**given, destination_interval=0.2)
    assert claim(batcher).callbacks == ()
    assert duties.shorten_once(batcher) == 3
    assert duties.shorten_once(batcher) == 0
    slots = [float(client.hget(key(f"dest:https://{n}.example:443"), "slot")) for n in "abu"]
    assert all(slot <= now_ms(client) + 200 for slot in slots)
    assert sorted(c.id for c in claim(batcher).callbacks) == ["a-1", "b-1", "u-0"]
    assert list(audit(inspector)) == []


def test_workers_that_lag_are_seen_whatever_the_lease_was(
    make_batcher: Make, client: redis.Redis
) -> None:
    fast = {"batch_size": 2, "min_interval": 0, "send_interval": 0, "destination_interval": 0}
    old, batcher = make_batcher(**fast, stuck_after=HOUR), make_batcher(**fast, stuck_after=60)
    for n in range(6):
        put(old, f"c-{n}")
    late = [c.id for _ in range(2) for c in claim(old).callbacks]
    for id in late[:3]:
        backdate(client, "processing", id, 1_500)
    assert claim(batcher).result is ClaimResult.SATURATED
