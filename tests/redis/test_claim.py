from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import pytest
import redis

from callbacks.batcher.audit import audit
from callbacks.batcher.inspector import Inspector
from callbacks.batcher.store import CLAIM_STEP, HORIZON_MS, Batcher
from callbacks.model import Claimed, ClaimResult, Effect, Feedback, Item, Outcome, Unlocked
from tests.redis.support import (
    HOST,
    HOUR_MS,
    begin,
    claim,
    everything,
    key,
    now_ms,
    packed,
    put,
    settle,
    settlement,
)
from tests.support.server import cpu_s

Make = Callable[..., Batcher]


def hosts(batch_ids: list[str]) -> Counter[str]:
    return Counter(id.split("/")[0] for id in batch_ids)


def test_slots_are_one_stagger_apart_and_end_at_the_horizon(
    make_batcher: Make, client: redis.Redis, inspector: Inspector
) -> None:
    batcher = make_batcher(destination_interval=0)
    for n in range(40):
        put(batcher, f"c-{n:02}")
    batch = claim(batcher)

    assert batch.result is ClaimResult.CLAIMED
    assert [c.slot_ms - batch.now_ms for c in batch.callbacks] == [200 * n for n in range(11)]
    assert [c.id for c in batch.callbacks] == [f"c-{n:02}" for n in range(11)]
    slots = client.zrange(key("processing"), 0, -1, withscores=True)
    assert slots == [(c.id.encode(), c.slot_ms) for c in batch.callbacks]
    assert list(audit(inspector)) == []


def test_the_schedule_goes_on_across_batches(make_batcher: Make) -> None:
    batcher = make_batcher(batch_size=4, min_interval=0, destination_interval=0)
    for n in range(12):
        put(batcher, f"c-{n:02}")
    slots = [c.slot_ms for _ in range(2) for c in claim(batcher).callbacks]
    assert [later - earlier for earlier, later in pairwise(slots)] == [200] * 7


def test_a_batch_has_at_most_batch_size_callbacks(make_batcher: Make) -> None:
    batcher = make_batcher(batch_size=3, send_interval=0, destination_interval=0)
    for n in range(5):
        put(batcher, f"c-{n}")
    assert len(claim(batcher).callbacks) == 3


def test_destinations_take_turns_however_many_wait_for_one(make_batcher: Make) -> None:
    batcher = make_batcher(send_interval=0, destination_interval=0, batch_size=30, min_interval=0)
    for n in range(500):
        put(batcher, f"big/{n:03}", "https://big:443")
    for n in range(10):
        put(batcher, f"small{n}/0", f"https://small{n}:443")
    ids = [c.id for _ in range(2) for c in claim(batcher).callbacks]
    assert {host for host in hosts(ids) if host != "big"} == {f"small{n}" for n in range(10)}
    assert hosts(ids)["big"] == 50


def test_slots_of_one_destination_keep_its_interval(make_batcher: Make) -> None:
    batcher = make_batcher(send_interval=0.01, destination_interval=0.5)
    for n in range(9):
        put(batcher, f"a/{n}", "https://a:443")
        put(batcher, f"b/{n}", "https://b:443")
    batch = claim(batcher)
    for host in "ab":
        slots = [c.slot_ms for c in batch.callbacks if c.id.startswith(host)]
        assert [y - x for x, y in pairwise(slots)] == [500] * (len(slots) - 1)
        assert slots


def test_a_destination_gives_no_more_than_its_interval_fits_into_the_horizon(
    make_batcher: Make,
) -> None:
    batcher = make_batcher(send_interval=0, destination_interval=1, min_interval=2)
    for n in range(9):
        put(batcher, f"c-{n}")
    batch = claim(batcher)
    assert [c.slot_ms - batch.now_ms for c in batch.callbacks] == [0, 1000, 2000]
    assert max(c.slot_ms for c in batch.callbacks) <= batch.now_ms + HORIZON_MS


def test_without_its_lock_a_dispatcher_claims_nothing(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher = make_batcher()
    put(batcher, "c-1")
    fence = batcher.lock("old")
    client.delete(key("lock"))  # it outlived its time to live
    assert batcher.claim("old", fence).result is ClaimResult.LOCK_LOST
    newer = batcher.lock("new")
    assert newer == fence + 1
    before = everything(client)
    assert batcher.claim("old", fence).result is ClaimResult.LOCK_LOST
    assert everything(client) == before
    assert len(batcher.claim("new", newer).callbacks) == 1


def test_two_dispatchers_never_hold_the_lock_at_once(batcher: Batcher) -> None:
    fence = batcher.lock("a")
    assert batcher.lock("b") == 0
    assert batcher.lock("a") == fence
    assert batcher.unlock("b", fence) is Unlocked.LOST
    assert batcher.unlock("a", fence) is Unlocked.DONE
    assert batcher.lock("b") == fence + 1


def test_unlock_reports_a_trigger_that_found_the_lock_held(
    batcher: Batcher, client: redis.Redis
) -> None:
    fence = batcher.lock("a")
    client.hset(key("state"), "next_batch", now_ms(client) - 1)
    assert batcher.unlock("a", fence) is Unlocked.MISSED
    fence = batcher.lock("a")
    client.hset(key("state"), "next_batch", now_ms(client) + 60_000)
    assert batcher.unlock("a", fence) is Unlocked.DONE


def test_a_trigger_that_comes_while_all_is_paused_calls_no_other(
    batcher: Batcher, client: redis.Redis
) -> None:
    client.hset(key("state"), "next_batch", now_ms(client) - 1)
    batcher.pause()
    fence = batcher.lock("a")
    assert batcher.claim("a", fence).result is ClaimResult.PAUSED
    assert batcher.unlock("a", fence) is Unlocked.DONE


def test_a_trigger_that_enqueue_sent_too_early_arms_the_next(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher = make_batcher(max_delay=0, min_interval=0.5)
    put(batcher, "c-1")
    assert len(claim(batcher).callbacks) == 1
    put(batcher, "c-2", "https://b.example:443")
    early = claim(batcher)
    assert early.result is ClaimResult.TOO_EARLY
    assert early.arm_ms is not None


def test_a_repeated_claim_with_its_nonce_gets_the_same_batch(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher = make_batcher(min_interval=0)
    for n in range(50):
        put(batcher, f"c-{n}")
    fence = batcher.lock("o")
    first = batcher.claim("o", fence, nonce="n" * 32)
    before = everything(client)
    assert batcher.claim("o", fence, nonce="n" * 32) == first
    assert everything(client) == before


def test_a_claim_before_min_interval_takes_nothing_and_arms_once(make_batcher: Make) -> None:
    batcher = make_batcher(batch_size=2, min_interval=30)
    for n in range(9):
        put(batcher, f"c-{n}")
    first = claim(batcher)
    assert first.arm_ms == 30_000
    second = claim(batcher)
    assert (second.result, second.callbacks, second.arm_ms) == (ClaimResult.TOO_EARLY, (), None)


def test_the_next_batch_is_armed_while_anything_is_ready_and_only_then(make_batcher: Make) -> None:
    batcher = make_batcher(batch_size=2, destination_interval=0)
    for n in range(3):
        put(batcher, f"c-{n}")
    assert claim(batcher).arm_ms == 500
    batcher = make_batcher(batch_size=9, destination_interval=0, min_interval=0)
    assert len(claim(batcher).callbacks) == 1
    assert claim(batcher).arm_ms is None


def test_nothing_is_claimed_while_workers_lag_behind_a_whole_batch(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher = make_batcher(batch_size=3, min_interval=0, send_interval=0, destination_interval=0)
    for n in range(12):
        put(batcher, f"c-{n:02}")
    late = [c.id for _ in range(2) for c in claim(batcher).callbacks]
    for id in late[:4]:
        client.zincrby(key("processing"), -1500, id)
    batch = claim(batcher)
    assert batch.result is ClaimResult.SATURATED
    assert batch.arm_ms == 500


def test_while_the_workers_are_saturated_their_answers_send_no_triggers(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher = make_batcher(send_interval=0, destination_interval=0, batch_size=2, min_interval=0)
    for n in range(8):
        put(batcher, f"c-{n}")
    claimed = [c for _ in range(3) for c in claim(batcher).callbacks]
    for one in claimed:
        client.zincrby(key("processing"), -1500, one.id)
    first, second, *_ = claimed
    assert begin(batcher, first)
    assert begin(batcher, second)
    assert claim(batcher).result is ClaimResult.SATURATED
    for one in (first, second):
        told = settlement(batcher, one, Outcome.SENT, 1, feedback=Feedback(Effect.NONE))
        assert told.arm_ms is None


def with_threads(make_batcher: Make, threads: int) -> Batcher:
    """All workers have so many threads; 1,000 callbacks wait, and nothing is paced."""
    unpaced = {"send_interval": 0, "destination_interval": 0, "destination_concurrency": 0}
    batcher = make_batcher(**unpaced, batch_size=500, min_interval=0)
    batcher.tick("w-0", 1_000, threads=threads, places=threads)
    for n in range(1_000):
        put(batcher, f"c-{n:03}")
    return batcher


def claim_all(batcher: Batcher) -> list[Claimed]:
    found: list[Claimed] = []
    while more := claim(batcher).callbacks:
        found += more
    return found


@pytest.mark.parametrize(
    ("latency_ms", "waiting"),
    [(None, 5), (10_000, 0), (1_000, 2), (100, 25), (10, 250), (1, 250)],
    ids=["unknown", "slow", "a second", "quick", "as quick as counts", "quicker"],
)
def test_no_more_is_claimed_than_the_workers_can_begin_soon(
    make_batcher: Make, client: redis.Redis, latency_ms: int | None, waiting: int
) -> None:
    """Ten threads, and as many more as begin in 250 ms at the latency of their destination."""
    batcher = with_threads(make_batcher, 10)
    if latency_ms:
        client.hset(key(f"dest:{HOST}"), "latency", latency_ms)
    claimed = claim_all(batcher)
    assert len(claimed) == 10 + waiting
    assert claim(batcher).result is ClaimResult.BUSY
    for one in claimed[:10]:
        begin(batcher, one)
    assert claim(batcher).result is ClaimResult.BUSY
    settle(batcher, claimed[0])
    client.hset(key(f"dest:{HOST}"), "latency", latency_ms or 500)  # as before this answer
    assert len(claim_all(batcher)) == 1


def test_at_most_a_batch_waits_for_threads(make_batcher: Make) -> None:
    assert len(claim_all(with_threads(make_batcher, 1_000))) == 500


def test_busy_workers_are_asked_again_soon_and_by_one_alone(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher = with_threads(make_batcher, 1)
    (claimed,) = claim(batcher).callbacks
    begin(batcher, claimed)
    busy = claim(batcher)
    assert (busy.result, busy.arm_ms) == (ClaimResult.BUSY, 100)
    told = settlement(batcher, claimed, Outcome.SENT, 1, feedback=Feedback(Effect.NONE))
    assert told.arm_ms is None  # a trigger comes at that time


def test_what_is_due_later_takes_no_thread_yet(make_batcher: Make, client: redis.Redis) -> None:
    batcher = with_threads(make_batcher, 2)
    for one in claim_all(batcher):
        client.zincrby(key("processing"), 60_000, one.id)  # as a retry's delay would
    assert len(claim_all(batcher)) == 3  # as before


def test_a_slow_destination_does_not_keep_quick_ones_waiting_for_free_threads(
    make_batcher: Make, client: redis.Redis
) -> None:
    """Each thread that a quick one frees serves the next: 10 * 250 * (1/20 + 1/10000) / 2 = 62."""
    batcher = with_threads(make_batcher, 10)
    slow = "https://slow.example:443"
    for n in range(100):
        put(batcher, f"s-{n}", slow)
    client.hset(key(f"dest:{slow}"), "latency", 10_000)
    client.hset(key(f"dest:{HOST}"), "latency", 20)
    assert len(claim_all(batcher)) == 10 + 62


def test_requests_whose_leases_have_ended_hold_no_threads(
    make_batcher: Make, client: redis.Redis
) -> None:
    """Their process is dead, and what reclaims them may come an hour later."""
    batcher = with_threads(make_batcher, 10)
    before = claim_all(batcher)
    for one in before:
        client.zadd(key("processing"), {one.id: -(now_ms(client) - 1)})
    assert len(claim_all(batcher)) == len(before)


def test_what_has_waited_long_past_its_slot_is_not_about_to_take_a_thread(
    make_batcher: Make, client: redis.Redis
) -> None:
    """Its message is lost, and what sends another may come an hour later."""
    batcher = with_threads(make_batcher, 10)
    before = claim_all(batcher)
    for one in before:
        client.zincrby(key("processing"), -9_000, one.id)
    assert claim(batcher).result is ClaimResult.BUSY
    for one in before:
        client.zincrby(key("processing"), -1_001, one.id)
    assert len(claim_all(batcher)) == len(before)


def test_threads_of_a_new_process_count_at_once_however_long_the_tick(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher = with_threads(make_batcher, 10)
    assert not batcher.tick("w-1", HOUR_MS, threads=20, places=10).elected
    assert client.hmget(key("state"), "threads", "unproven_most") == [b"30", b"20"]
    assert not batcher.tick("w-1", HOUR_MS, threads=20, places=10).elected
    assert client.hmget(key("state"), "threads", "unproven_most") == [b"30", b"20"]
    assert len(claim_all(batcher)) == 30 + 15


def test_with_a_stagger_slots_ahead_are_given_as_long_as_the_workers_keep_up(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher = make_batcher(send_interval=0.2, destination_interval=0, batch_size=50, adaptive=False)
    batcher.tick("w-0", 1_000, threads=2, places=2)
    for n in range(80):
        put(batcher, f"c-{n:02}")
    first = claim(batcher).callbacks
    assert len(first) == 11  # up to the horizon
    client.hdel(key("state"), "last_batch", "slot")
    for one in first:
        client.zadd(key("processing"), {one.id: now_ms(client)}, xx=True)  # all are due
    assert claim(batcher).result is ClaimResult.BUSY


def test_workers_of_a_release_that_tells_no_threads_are_not_waited_for(make_batcher: Make) -> None:
    assert len(claim_all(with_threads(make_batcher, 0))) == 1_000


def test_a_callback_is_not_claimed_before_it_is_due(make_batcher: Make) -> None:
    batcher = make_batcher(min_interval=0)
    put(batcher, "later", delay_ms=60_000)
    assert claim(batcher).callbacks == ()
    put(batcher, "now")
    assert [c.id for c in claim(batcher).callbacks] == ["now"]


def test_while_paused_nothing_is_claimed(make_batcher: Make) -> None:
    batcher = make_batcher(min_interval=0)
    put(batcher, "c-1")
    batcher.pause()
    assert claim(batcher).result is ClaimResult.PAUSED
    batcher.resume()
    assert len(claim(batcher).callbacks) == 1


def test_a_paused_destination_keeps_its_callbacks_and_harms_nobody(make_batcher: Make) -> None:
    batcher = make_batcher(min_interval=0, send_interval=0)
    batcher.pause(HOST)
    for n in range(5):
        put(batcher, f"paused/{n}")
    put(batcher, "free", "https://b:443")
    assert [c.id for c in claim(batcher).callbacks] == ["free"]
    assert claim(batcher).arm_ms is None
    batcher.resume(HOST)
    assert len(claim(batcher).callbacks) > 0


def test_each_claim_mints_new_tokens(make_batcher: Make) -> None:
    batcher = make_batcher(min_interval=0, send_interval=0, destination_interval=0)
    for n in range(4):
        put(batcher, f"c-{n}")
    batch = claim(batcher)
    tokens = {c.token for c in batch.callbacks}
    for c in batch.callbacks:
        assert batcher.release(c.id, c.token, 0).released
    again = {c.token for c in claim(batcher).callbacks}
    assert len(tokens) == len(again) == 4
    assert not tokens & again


def test_a_newcomer_is_not_put_behind_the_holes_of_a_slow_destination(make_batcher: Make) -> None:
    batcher = make_batcher(min_interval=0, send_interval=0.005, destination_interval=0.4)
    for n in range(20):
        put(batcher, f"slow/{n}", "https://slow:443")
    claim(batcher)
    put(batcher, "new", "https://new:443")
    batch = claim(batcher)
    (new,) = [c for c in batch.callbacks if c.id == "new"]
    assert new.slot_ms - batch.now_ms <= 505


def test_claiming_writes_where_memory_is_full(
    make_batcher: Make, client: redis.Redis, inspector: Inspector
) -> None:
    batcher = make_batcher()
    put(batcher, "c-1")
    client.config_set("maxmemory", 1)
    fence = batcher.lock("o") if client.config_set("maxmemory", 0) else 0
    client.config_set("maxmemory", 1)
    assert len(batcher.claim("o", fence).callbacks) == 1
    client.config_set("maxmemory", 0)
    assert list(audit(inspector)) == []


@pytest.mark.parametrize("of", [None, "https://a.example:443"])
def test_pausing_and_resuming_write_where_memory_is_full(
    make_batcher: Make, client: redis.Redis, of: str | None
) -> None:
    batcher = make_batcher()
    put(batcher, "c-1")
    entry = json.dumps({"act": "pause", "who": "night", "reason": "trial"})
    client.config_set("maxmemory", 1)
    try:
        batcher.pause(of, entry=entry)
        assert batcher.resume(of, entry=entry)
    finally:
        client.config_set("maxmemory", 0)


def test_a_large_batch_is_claimed_in_steps_none_of_which_holds_redis_for_long(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher = make_batcher(batch_size=1_000, send_interval=0, min_interval=1)
    names = [f"https://h{n}.example:443" for n in range(1_000)]
    for host in names:
        client.hset(key(f"dest:{host}"), "ok", 1)
    batcher.enqueue_many(
        Item(f"c-{n}", host, packed(host), 0, HOUR_MS) for n, host in enumerate(names)
    )
    worked_s = cpu_s(client)
    batch = claim(batcher)
    worked_s = cpu_s(client) - worked_s
    assert len({c.id for c in batch.callbacks}) == 1_000
    assert worked_s / (1_000 / CLAIM_STEP) < 0.005
    assert claim(batcher).result is ClaimResult.TOO_EARLY, "the steps are one batch"


def test_the_steps_of_a_batch_ask_for_one_trigger(make_batcher: Make) -> None:
    batcher = make_batcher(batch_size=2 * CLAIM_STEP, send_interval=0, destination_interval=0)
    for n in range(3 * CLAIM_STEP):
        put(batcher, f"c-{n}")
    fence = batcher.lock("owner")
    first = batcher.claim("owner", fence)
    second = batcher.claim("owner", fence, taken=CLAIM_STEP)
    assert [len(step.callbacks) for step in (first, second)] == [CLAIM_STEP, CLAIM_STEP]
    assert first.arm_ms is None
    assert second.arm_ms is not None
