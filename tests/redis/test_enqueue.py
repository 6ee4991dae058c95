from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from callbacks.batcher.audit import audit
from callbacks.batcher.inspector import Inspector, overview
from callbacks.batcher.store import Batcher
from callbacks.model import Item, QueueFull, Signal, Stored
from tests.redis.support import (
    HOST,
    HOUR_MS,
    begin,
    claim,
    counted,
    everything,
    key,
    now_ms,
    packed,
    put,
    settle,
)

Make = Callable[..., Batcher]


def test_an_accepted_callback_is_in_its_lane_the_ring_and_the_expiry(
    batcher: Batcher, client: redis.Redis
) -> None:
    before = now_ms(client)
    assert put(batcher, "c-1").accepted
    after = now_ms(client)

    assert client.get(key("cb:c-1")) == packed()
    ((lane_id, due),) = client.zrange(key(f"lane:{HOST}"), 0, -1, withscores=True)
    assert (lane_id, before <= due <= after) == (b"c-1", True)
    assert client.zrange(key("ring"), 0, -1, withscores=True) == [(HOST.encode(), due)]
    assert client.zrange(key("expiry"), 0, -1, withscores=True) == [(b"c-1", due + HOUR_MS)]
    assert counted(client, "accepted") == 1


def test_a_known_id_is_not_accepted_and_only_counted(batcher: Batcher, client: redis.Redis) -> None:
    put(batcher, "c-1")
    before = everything(client)
    again = batcher.enqueue(Item("c-1", HOST, packed(), 0, 1))
    other = batcher.enqueue(Item("c-1", HOST, packed() + b" ", 0, 1))
    after = everything(client)

    assert (again, other) == (Stored(False), Stored(False, conflict=True))
    assert counted(client, "duplicates") == 2
    assert overview(batcher.scripts).per_minute["duplicates"] == 2
    for snapshot in (before, after):
        for name in [
            n for n in snapshot if n.startswith(("{callbacks}:counters", "{callbacks}:rate:"))
        ]:
            del snapshot[name]
    assert before == after


def test_a_full_redis_reports_a_known_id_too(batcher: Batcher, client: redis.Redis) -> None:
    put(batcher, "c-1")
    client.config_set("maxmemory", 1)
    try:
        again = batcher.enqueue(Item("c-1", HOST, packed(), 0, 1))
    finally:
        client.config_set("maxmemory", 0)
    assert again == Stored(False)


def test_of_fifty_threads_with_one_id_exactly_one_is_accepted(
    make_batcher: Make, inspector: Inspector
) -> None:
    batcher = make_batcher(redis_max_connections=16)

    def attempt(n: int) -> bool:
        return put(batcher, "c-1").accepted

    with ThreadPoolExecutor(50) as pool:
        accepted = list(pool.map(attempt, range(50)))
    assert accepted.count(True) == 1
    assert overview(inspector.scripts).totals["duplicates"] == 49
    assert list(audit(inspector)) == []


def test_the_first_callback_asks_for_a_check_and_the_next_ones_do_not(batcher: Batcher) -> None:
    assert put(batcher, "c-1") == Stored(True, Signal.CHECK, 5000)
    assert put(batcher, "c-2") == Stored(True, Signal.NONE)


def test_one_that_would_end_before_its_batch_is_overdue_does_not_wait_for_it(
    make_batcher: Callable[..., Batcher],
) -> None:
    batcher = make_batcher(max_delay=5)
    assert put(batcher, "short", life_ms=3_000).signal is Signal.TRIGGER
    assert put(batcher, "long", life_ms=60_000).signal is Signal.NONE  # that trigger finds it


def test_a_callback_that_is_due_earlier_than_the_armed_check_asks_again(batcher: Batcher) -> None:
    assert put(batcher, "later", delay_ms=20_000).signal is Signal.CHECK
    assert put(batcher, "now").signal is Signal.CHECK
    assert put(batcher, "also now").signal is Signal.NONE


def test_a_callback_due_in_an_hour_leaves_the_check_to_the_ticker(batcher: Batcher) -> None:
    assert put(batcher, "c-1", delay_ms=HOUR_MS // 2) == Stored(True, Signal.NONE)


def test_the_callback_that_fills_a_batch_asks_for_the_trigger(make_batcher: Make) -> None:
    batcher = make_batcher(batch_size=3)
    signals = [put(batcher, f"c-{n}").signal for n in range(5)]
    assert signals == [Signal.CHECK, Signal.NONE, Signal.TRIGGER, Signal.NONE, Signal.NONE]


def test_callbacks_of_a_paused_destination_never_fill_a_batch(make_batcher: Make) -> None:
    batcher = make_batcher(batch_size=3)
    batcher.pause(HOST)
    assert Signal.TRIGGER not in {put(batcher, f"c-{n}").signal for n in range(9)}


def test_while_all_is_paused_nothing_is_asked_for(make_batcher: Make) -> None:
    batcher = make_batcher(batch_size=1, max_delay=0)
    batcher.pause()
    assert put(batcher, "c-1") == Stored(True, Signal.NONE)


def test_without_a_delay_each_callback_triggers_unless_a_trigger_is_on_its_way(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher = make_batcher(max_delay=0)
    assert put(batcher, "c-1").signal is Signal.TRIGGER
    assert put(batcher, "c-2").signal is Signal.NONE
    client.hdel(key("state"), "next_batch")  # it has arrived
    assert put(batcher, "c-3").signal is Signal.TRIGGER


def test_while_no_worker_runs_one_trigger_waits_for_it_and_no_more(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher = make_batcher(max_delay=0)
    assert put(batcher, "c-1").signal is Signal.TRIGGER
    client.hset(key("state"), "next_batch", now_ms(client) - HOUR_MS)
    assert put(batcher, "c-2").signal is Signal.NONE
    claim(batcher)
    assert put(batcher, "c-3").signal is Signal.TRIGGER


def test_what_is_short_of_life_does_not_rely_on_a_trigger_that_is_overdue(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher = make_batcher(max_delay=5)
    client.hset(key("state"), "next_batch", now_ms(client) - 500_000)
    assert put(batcher, "long", life_ms=60_000).signal is Signal.NONE
    assert put(batcher, "short", life_ms=3_000).signal is Signal.TRIGGER
    assert put(batcher, "short too", life_ms=3_000).signal is Signal.NONE


def test_a_trigger_that_comes_too_late_for_a_callback_is_not_enough(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher = make_batcher(max_delay=1)
    client.hset(key("state"), "next_batch", now_ms(client) + 2_500)
    assert put(batcher, "c-1").signal is Signal.CHECK
    batcher = make_batcher(max_delay=0)
    assert put(batcher, "c-2").signal is Signal.TRIGGER


def test_a_batch_that_is_held_back_by_the_last_one_comes_in_time(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher = make_batcher(max_delay=0)
    soon = now_ms(client) + 400
    client.hset(key("state"), mapping={"next_batch": soon, "earliest": soon})
    assert put(batcher, "c-1").signal is Signal.NONE


def test_a_full_queue_refuses_and_stores_nothing_but_counts_it(
    make_batcher: Make, client: redis.Redis
) -> None:
    batcher = make_batcher(max_queued=2)
    put(batcher, "c-1"), put(batcher, "c-2")
    before = everything(client)
    with pytest.raises(QueueFull, match="2 callbacks wait, as many as CALLBACKS_MAX_QUEUED"):
        put(batcher, "c-3")
    assert counted(client, "refused") == 1
    after = everything(client)
    for name in after:
        if "rate:" in name or name == key("counters"):
            after[name].pop(b"refused", None)
    assert after == before


def test_a_redis_without_memory_refuses_and_stores_nothing(
    batcher: Batcher, client: redis.Redis
) -> None:
    put(batcher, "c-1")
    before = everything(client)
    client.config_set("maxmemory", 1)
    with pytest.raises(QueueFull, match="maxmemory"):
        put(batcher, "c-2")
    (result,) = batcher.enqueue_many([Item("c-3", HOST, packed(), 0, HOUR_MS)])
    assert isinstance(result, QueueFull)
    assert not put(batcher, "c-1").accepted  # known: reported although nothing can be written
    client.config_set("maxmemory", 0)
    assert everything(client) == before


def test_many_are_stored_in_one_pipeline_and_each_gets_its_answer(
    batcher: Batcher, inspector: Inspector
) -> None:
    items = [Item(f"c-{n % 400}", HOST, packed() + str(n).encode(), 0, HOUR_MS) for n in range(500)]
    stored = batcher.enqueue_many(items)
    assert [reply.accepted for reply in stored] == [True] * 400 + [False] * 100
    assert overview(inspector.scripts).queued == 400


def test_a_script_flush_is_not_noticed(batcher: Batcher, client: redis.Redis) -> None:
    put(batcher, "c-1")
    client.script_flush()
    put(batcher, "c-2")
    client.script_flush()
    assert len(batcher.enqueue_many([Item("c-3", HOST, packed(), 0, HOUR_MS)])) == 1


def test_what_fills_redis_between_two_looks_is_refused_by_it_and_what_it_took_is_delivered(
    make_batcher: Make, client: redis.Redis, inspector: Inspector
) -> None:
    batcher = make_batcher(send_interval=0, min_interval=0, destination_interval=0)
    put(batcher, "first")
    client.config_set("maxmemory", client.info("memory")["used_memory"] + 2_000_000)
    many = [Item(f"c-{n}", HOST, packed() + b"x" * 2_000, 0, HOUR_MS) for n in range(2_000)]
    answers = batcher.enqueue_many(many)
    taken = [answer for answer in answers if isinstance(answer, Stored)]
    refused = [answer for answer in answers if isinstance(answer, QueueFull)]
    assert len(taken) + len(refused) == len(many)
    assert taken
    assert refused
    for claimed in claim(batcher).callbacks[:4]:
        begin(batcher, claimed)
        assert settle(batcher, claimed).name == "SENT"
    assert list(audit(inspector)) == []
    client.config_set("maxmemory", 0)
