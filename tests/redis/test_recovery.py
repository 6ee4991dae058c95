"""release, reclaim, expire, wake and trim: what recovers callbacks and ends old ones."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import redis

from callbacks.batcher.audit import audit
from callbacks.batcher.inspector import Inspector, find
from callbacks.batcher.memory import read_memory
from callbacks.batcher.store import Batcher
from callbacks.model import Late, Later, LaterWhy, Outcome, Recovered, Refused, State, Trimmed
from tests.redis.support import (
    HOST,
    HOUR_MS,
    backdate,
    begin,
    claim,
    claim_one,
    counted,
    everything,
    key,
    now_ms,
    put,
    settle,
    to_head,
)

Make = Callable[..., Batcher]


def state_of(batcher: Batcher, id: str) -> State:
    status = find(batcher.scripts, id)
    assert status is not None
    return status.state


def test_a_release_costs_nothing_and_ends_the_token(
    batcher: Batcher, client: redis.Redis, inspector: Inspector
) -> None:
    claimed = claim_one(batcher)
    assert batcher.release(claimed.id, claimed.token, 7).released
    assert client.zscore(key(f"lane:{HOST}"), "c-1") == 7
    assert batcher.begin(claimed.id, claimed.token) is Refused.STALE
    assert not batcher.release(claimed.id, claimed.token, 7).released
    assert counted(client, "attempts") == 0
    assert list(audit(inspector)) == []


def test_what_is_released_keeps_its_place_before_those_that_wait(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher = make_batcher(batch_size=1, send_interval=0)
    for n in range(3):
        put(batcher, f"c-{n}")
    (first,) = claim(batcher).callbacks
    assert batcher.release(first.id, first.token, now_ms(client) + 60_000).released
    assert client.zrange(key(f"lane:{HOST}"), 0, -1)[0] == b"c-0"
    suspect = make_batcher(batch_size=1, send_interval=0, min_interval=0)
    client.hdel(key("state"), "last_batch")
    client.hdel(key(f"dest:{HOST}"), "slot", "hold", "why")
    to_head(client)
    (first,) = claim(suspect).callbacks
    later = now_ms(client) + 1_000
    assert batcher.release(first.id, first.token, later, why=LaterWhy.SUSPECT).released
    assert client.zrange(key(f"lane:{HOST}"), 0, -1)[-1] == b"c-0"


def test_a_release_of_before_another_attempt_does_not_end_its_wait_for_the_retry(
    batcher: Batcher, client: redis.Redis
) -> None:
    claimed = claim_one(batcher)
    begin(batcher, claimed)
    settle(batcher, claimed, Outcome.RETRY, delay_ms=30_000)
    before = everything(client)
    assert not batcher.release(claimed.id, claimed.token, now_ms(client)).released
    assert everything(client) == before


def test_what_has_begun_is_not_released(batcher: Batcher, client: redis.Redis) -> None:
    claimed = claim_one(batcher)
    begin(batcher, claimed)
    before = everything(client)
    assert not batcher.release(claimed.id, claimed.token, 0).released
    assert everything(client) == before


def test_an_unbegun_callback_past_its_lease_is_due_again_at_once_without_a_crash(
    batcher: Batcher, client: redis.Redis, inspector: Inspector
) -> None:
    claim_one(batcher)
    assert batcher.reclaim(10, chance=0.5) == Recovered(0, 0, 0)
    client.zadd(key("processing"), {"c-1": 1})
    assert batcher.reclaim(10, chance=0.5) == Recovered(1, 0, 0)
    assert batcher.reclaim(10, chance=0.5) == Recovered(0, 0, 0)
    status = find(batcher.scripts, "c-1")
    assert status is not None
    assert (status.state, status.crashes) == (State.QUEUED, 0)
    assert status.next_attempt_at is not None
    assert status.next_attempt_at * 1000 <= now_ms(client)
    assert counted(client, "recovered") == 1
    assert list(audit(inspector)) == []


def test_a_begun_one_counts_as_a_crash_and_is_spread(
    make_batcher: Make, client: redis.Redis, inspector: Inspector
) -> None:
    batcher = make_batcher(send_interval=0, destination_interval=0, destination_concurrency=0)
    for n in range(20):
        put(batcher, f"c-{n}")
    for c in claim(batcher).callbacks:
        begin(batcher, c)
        client.zadd(key("processing"), {c.id: 1})
    now = now_ms(client)
    assert batcher.reclaim(100, chance=0.25) == Recovered(20, 0, 0)
    dues = [due - now for _, due in client.zrange(key(f"lane:{HOST}"), 0, -1, withscores=True)]
    assert min(dues) >= 5000
    assert max(dues) <= 30_100
    dues.sort()
    assert min(y - x for x, y in pairwise(dues)) > 500  # no two together
    status = find(batcher.scripts, "c-3")
    assert status is not None
    assert (status.crashes, status.retries, status.reason) == (1, 0, "crashed")
    assert list(audit(inspector)) == []


def test_the_third_crash_is_the_end(
    make_batcher: Make, client: redis.Redis, inspector: Inspector
) -> None:
    batcher = make_batcher(min_interval=0)
    put(batcher, "poison")
    for crash in (1, 2, 3):
        client.hset(key("state"), "send", 0)
        client.hset(key(f"dest:{HOST}"), mapping={"send": 0, "slot": 0})
        client.zadd(key(f"lane:{HOST}"), {"poison": 1})
        to_head(client)
        client.hset(key("state"), "slot", 0)
        (claimed,) = claim(batcher).callbacks
        go = begin(batcher, claimed)
        assert (go.attempt, go.crashes, go.retries) == (crash, crash - 1, 0)
        client.zadd(key("processing"), {"poison": 1})
        batcher.reclaim(10, chance=0)
    status = find(batcher.scripts, "poison")
    assert status is not None
    assert (status.state, status.reason, status.attempts) == (State.DEAD, "crashed", 3)
    assert list(audit(inspector)) == []


def test_a_retry_whose_wake_up_never_came_is_taken_back(
    batcher: Batcher, client: redis.Redis
) -> None:
    claimed = claim_one(batcher)
    begin(batcher, claimed)
    settle(batcher, claimed, Outcome.RETRY, delay_ms=1000)
    client.zadd(key("processing"), {"c-1": 1})
    assert batcher.reclaim(10, chance=0) == Recovered(1, 0, 0)
    status = find(batcher.scripts, "c-1")
    assert status is not None
    assert (status.crashes, status.retries, status.attempts) == (0, 1, 1)


def test_a_pass_is_bounded(make_batcher: Make, client: redis.Redis) -> None:
    batcher = make_batcher(send_interval=0, destination_interval=0)
    for n in range(8):
        put(batcher, f"c-{n}")
    for c in claim(batcher).callbacks:
        client.zadd(key("processing"), {c.id: 1})
    assert batcher.reclaim(5, chance=0).recovered == 5
    assert batcher.reclaim(5, chance=0).recovered == 3


def test_a_cancelled_request_that_crashed_stays_cancelled(
    batcher: Batcher, client: redis.Redis
) -> None:
    claimed = claim_one(batcher)
    begin(batcher, claimed)
    batcher.cancel("c-1")
    client.zadd(key("processing"), {"c-1": 1})
    assert batcher.reclaim(10, chance=0) == Recovered(0, 0, 1)
    assert state_of(batcher, "c-1") is State.CANCELLED


def test_an_audit_works_while_memory_is_full(
    batcher: Batcher, client: redis.Redis, inspector: Inspector
) -> None:
    put(batcher, "c-1")
    client.config_set("maxmemory", 1)
    assert list(audit(inspector)) == []
    client.zrem(key("ring"), HOST)
    assert [problem for problem in audit(inspector) if "ring" in problem]
    client.config_set("maxmemory", 0)


def test_taking_back_works_where_memory_is_full(batcher: Batcher, client: redis.Redis) -> None:
    claimed = claim_one(batcher)
    begin(batcher, claimed)
    client.zadd(key("processing"), {"c-1": 1})
    client.config_set("maxmemory", 1)
    assert batcher.reclaim(10, chance=0) == Recovered(1, 0, 0)


def test_what_is_past_its_age_is_dead_wherever_it_waits(
    make_batcher: Make, client: redis.Redis, inspector: Inspector
) -> None:
    batcher = make_batcher(send_interval=0, destination_interval=0, batch_size=3)
    for n in range(5):
        put(batcher, f"c-{n}")
    retrying, sending, claimed = claim(batcher).callbacks
    begin(batcher, retrying)
    settle(batcher, retrying, Outcome.RETRY, delay_ms=60_000)
    begin(batcher, sending)
    for n in range(5):
        client.zadd(key("expiry"), {f"c-{n}": 1})
    assert batcher.expire(10) == 4
    assert state_of(batcher, sending.id) is State.PROCESSING
    others = {retrying.id, claimed.id, "c-3", "c-4"}
    assert {state_of(batcher, id) for id in others} == {State.DEAD}
    status = find(batcher.scripts, retrying.id)
    assert status is not None
    assert (status.reason, status.history[-1].reason) == ("expired", "server_error")
    assert not client.exists(key("ring"), key(f"lane:{HOST}"))
    assert list(audit(inspector)) == []
    settle(batcher, sending)
    assert state_of(batcher, sending.id) is State.SENT


def test_a_claimed_callback_a_second_past_its_slot_is_named_once_in_a_while(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher = make_batcher(send_interval=0, destination_interval=0)
    for n in range(3):
        put(batcher, f"c-{n}")
    late, begun, fresh = claim(batcher).callbacks
    assert batcher.wake(10, repeats=10) == Late(0, 0, ())
    begin(batcher, begun)
    for c in (late, begun):
        backdate(client, "processing", c.id, 1500)
    assert batcher.wake(10, repeats=10) == Late(1, 0, ((late.id, late.token),))
    assert batcher.wake(10, repeats=10) == Late(1, 0, ())
    assert isinstance(begin(batcher, late).attempt, int)
    assert not isinstance(batcher.begin(fresh.id, fresh.token), Later)


def test_a_retry_past_its_due_time_is_named(batcher: Batcher, client: redis.Redis) -> None:
    claimed = claim_one(batcher)
    begin(batcher, claimed)
    settle(batcher, claimed, Outcome.RETRY, delay_ms=0)
    assert batcher.wake(10, repeats=10).named == ()
    backdate(client, "processing", "c-1", 1500)
    assert batcher.wake(10, repeats=10).named == (("c-1", claimed.token),)


def test_where_workers_are_slow_only_some_of_the_late_are_named_again(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher = make_batcher(send_interval=0, destination_interval=0)
    for n in range(5):
        put(batcher, f"c-{n}")
    for c in claim(batcher).callbacks:
        backdate(client, "processing", c.id, 1500)
    assert len(batcher.wake(10, repeats=2).named) == 5
    for n in range(5):
        client.hincrby(key(f"rec:c-{n}"), "w", -3_000)
    assert batcher.wake(3, repeats=2).repeats == 2
    assert [id for id, _ in batcher.wake(3, offset=3, repeats=2).named] == ["c-3", "c-4"]


def test_old_records_are_forgotten_in_bounded_steps(
    make_batcher: Make, client: redis.Redis, inspector: Inspector
) -> None:
    batcher = make_batcher(send_interval=0, destination_interval=0, sent_max=4)
    for n in range(9):
        put(batcher, f"c-{n}")
    batch = claim(batcher).callbacks
    for c in batch:
        begin(batcher, c) if n < 4 else batcher.scripts.client.hset(key("state"), "send", 0)
        if batcher.begin(c.id, c.token) is Refused.BEGUN:
            pass
        settle(batcher, c, Outcome.DEAD if c.id == "c-0" else Outcome.SENT)
    assert client.zcard(key("sent")) == 8
    assert batcher.trim(3) == Trimmed(3, 0, 0)
    assert batcher.trim(3) == Trimmed(1, 0, 0)
    assert batcher.trim(3) == Trimmed(0, 0, 0)
    backdate(client, "sent", "c-8", 90_000_000)
    backdate(client, "dead", "c-0", 700_000_000)
    assert batcher.trim(3) == Trimmed(1, 1, 0)
    assert find(batcher.scripts, "c-8") is None
    assert find(batcher.scripts, "c-0") is None
    assert counted(client, "purged") == 1
    assert list(audit(inspector)) == []


def test_a_destination_unused_for_a_day_is_forgotten_unless_it_waits_or_is_paused(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher = make_batcher(min_interval=0, send_interval=0)
    for host in ("idle", "waits", "paused"):
        put(batcher, host, f"https://{host}:443")
    claim(batcher)
    put(batcher, "more", "https://waits:443")
    batcher.pause("https://paused:443")
    for name in client.zrange(key("destinations"), 0, -1):
        backdate(client, "destinations", name.decode(), 90_000_000)
    assert batcher.trim(10) == Trimmed(0, 0, 1)
    left = {name.decode() for name in client.zrange(key("destinations"), 0, -1)}
    assert left == {"https://waits:443", "https://paused:443"}


def test_where_memory_is_short_the_oldest_dead_letters_go_in_steps(
    batcher: Batcher, client: redis.Redis, inspector: Inspector
) -> None:
    for n in range(6):
        settle_dead(batcher, f"c-{n}", client)
        client.zadd(key("dead"), {f"c-{n}": now_ms(client) - 1000 + n})
    assert batcher.trim(2, dead_max=1) == Trimmed(0, 2, 0)
    assert batcher.trim(2, dead_max=1) == Trimmed(0, 2, 0)
    assert batcher.trim(2, dead_max=1) == Trimmed(0, 1, 0)
    assert batcher.trim(2, dead_max=1) == Trimmed(0, 0, 0)
    assert client.zrange(key("dead"), 0, -1) == [b"c-5"]
    assert counted(client, "purged") == 5
    assert list(audit(inspector)) == []


def test_what_a_dead_letter_takes_is_measured_only_near_the_memory_limit(
    batcher: Batcher, client: redis.Redis
) -> None:
    settle_dead(batcher, "c-1", client)

    def commands() -> int:
        return int(client.info("stats")["total_commands_processed"])

    def dead_bytes(maxmemory: int) -> int:
        client.config_set("maxmemory", maxmemory)
        memory = read_memory(batcher.scripts)
        client.config_set("maxmemory", 0)
        assert memory is not None
        return memory.dead_bytes

    before = commands()
    assert dead_bytes(0) == dead_bytes(10**10) == 0
    assert commands() - before == 4 + 2 + 1  # one command each, and exactly this count
    taken = dead_bytes(1)
    assert 200 < taken < 2_000
    client.set(key("cb:c-1"), b"x" * 100_000)
    assert dead_bytes(1) > taken + 99_000


def settle_dead(batcher: Batcher, id: str, client: redis.Redis) -> None:
    client.hdel(key("state"), "send", "slot", "last_batch")
    client.hdel(key(f"dest:{HOST}"), "send", "slot")
    claimed = claim_one(batcher, id)
    begin(batcher, claimed)
    settle(batcher, claimed, Outcome.DEAD)


def test_every_process_sees_that_redis_has_lost_its_data(
    batcher: Batcher, client: redis.Redis
) -> None:
    first = batcher.tick("a", 60_000)
    assert (first.elected, first.lost) == (True, False)
    assert abs(first.now_ms - now_ms(client)) < 5_000
    assert first.epoch == f"{first.now_ms}-a"
    same = batcher.tick("b", 60_000, known=first.epoch)
    assert (same.elected, same.lost, same.epoch) == (False, False, first.epoch)
    client.flushall()
    found = batcher.tick("b", 60_000, known=first.epoch)
    assert (found.elected, found.lost) == (True, True)
    late = batcher.tick("a", 60_000, known=first.epoch)
    assert (late.lost, late.epoch) == (True, found.epoch)
    assert not batcher.tick("a", 60_000, known=found.epoch).lost
    assert int(client.hget(key("state"), "lost") or 0) >= late.now_ms


def test_a_clock_that_is_set_back_keeps_neither_the_ticker_nor_the_dispatcher_from_their_work(
    batcher: Batcher, client: redis.Redis
) -> None:
    assert batcher.tick("a", 1_000).elected
    assert batcher.lock("a") == 1
    for name in ("tick", "lock"):
        client.pexpire(key(name), HOUR_MS)  # its end is now an hour away
    assert batcher.tick("b", 1_000).elected
    assert batcher.lock("b") == 2


def test_one_process_ticks_in_each_interval(batcher: Batcher) -> None:
    assert batcher.tick("a", 60_000).elected
    assert not batcher.tick("b", 60_000).elected
    assert not batcher.tick("a", 60_000).elected
