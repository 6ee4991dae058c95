"""What the monitor reads of holds, ages and worker processes."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import redis

from callbacks.admin import document
from callbacks.admin.looking import system_status
from callbacks.batcher.inspector import Inspector, Worker, attempts, survey, workers
from callbacks.batcher.store import Batcher
from callbacks.model import Claimed, Effect, Feedback, Outcome
from callbacks.monitor.snapshot import take
from callbacks.worker.duties import note_holds_once
from tests.redis.support import HOST, HOUR_MS, backdate, begin, claim_one, key, now_ms, put, settle

Make = Callable[..., Batcher]

OTHER = "https://b.example:443"
FAULT = Feedback(Effect.FAULT, transport=True)


@pytest.fixture
def unpaced(make_batcher: Make) -> Batcher:
    return make_batcher(min_interval=0, send_interval=0, destination_interval=0, breaker_failures=1)


def fail(batcher: Batcher, id: str, destination: str = HOST, feedback: Feedback = FAULT) -> Claimed:
    """One attempt that ends with this feedback and waits for its retry."""
    claimed = claim_one(batcher, id, destination)
    begin(batcher, claimed)
    settle(batcher, claimed, Outcome.RETRY, feedback=feedback, delay_ms=HOUR_MS)
    return claimed


def held(client: redis.Redis) -> set[str]:
    return {name.decode() for name in client.zrange(key("held"), 0, -1)}


# Ages


def test_what_is_due_is_ready_until_its_destination_is_held(
    unpaced: Batcher, client: redis.Redis
) -> None:
    put(unpaced, "c-1")
    put(unpaced, "c-2")
    put(unpaced, "c-3", delay_ms=60_000)
    put(unpaced, "c-4", OTHER)
    backdate(client, f"lane:{HOST}", "c-1", 5_000)
    backdate(client, f"lane:{OTHER}", "c-4", 1_000)
    due = client.zscore(key(f"lane:{HOST}"), "c-1")
    found = survey(unpaced.scripts)
    assert (found.ready, found.ready_since_ms, found.held_since_ms) == (3, due, None)

    unpaced.pause(HOST)
    found = survey(unpaced.scripts)
    assert (found.ready, found.held_since_ms) == (1, due)
    assert found.ready_since_ms == client.zscore(key(f"lane:{OTHER}"), "c-4")

    unpaced.pause()  # everything
    found = survey(unpaced.scripts)
    assert (found.ready, found.ready_since_ms, found.held_since_ms) == (0, None, due)


def test_a_lane_of_a_paused_host_is_held(unpaced: Batcher) -> None:
    put(unpaced, "c-1", f"{HOST}#a")
    unpaced.pause(f"{HOST}#*")
    found = survey(unpaced.scripts)
    assert (found.ready, found.ready_since_ms) == (0, None)
    assert found.held_since_ms is not None
    assert found.holds == {"paused": 1}


def test_a_destination_at_its_limit_is_ready(make_batcher: Make, client: redis.Redis) -> None:
    """It is held until its next answer alone: that is its pace, not its trouble."""
    batcher = make_batcher(min_interval=0, send_interval=0, destination_interval=0)
    put(batcher, "c-1")
    client.hset(key(f"dest:{HOST}"), mapping={"hold": now_ms(client) + 1_000, "why": "full"})
    assert survey(batcher.scripts).ready == 1


def test_ages_are_told_apart_in_what_status_prints(unpaced: Batcher, client: redis.Redis) -> None:
    put(unpaced, "c-1")
    put(unpaced, "c-2", OTHER)
    backdate(client, f"lane:{HOST}", "c-1", 3_000)
    backdate(client, f"lane:{OTHER}", "c-2", 900_000)
    unpaced.pause(OTHER)
    found = document(system_status(take(unpaced)))
    assert found["ready"] == 1
    assert 3 <= found["oldest_ready_age"] < 33
    assert 900 <= found["oldest_held_age"] < 930
    assert found["oldest_queued_age"] == found["oldest_held_age"]
    assert found["destinations_held"] == {"paused": 1, "breaker": 0, "park": 0, "secret": 0}


def test_more_destinations_than_a_page_are_counted(unpaced: Batcher, client: redis.Redis) -> None:
    for n in range(250):
        put(unpaced, f"c-{n}", f"https://{n}.example:443", proven=n % 2 == 0)
    for n in range(120):
        unpaced.pause(f"https://{n}.example:443")
    found = survey(unpaced.scripts)
    assert (found.ready, found.holds) == (130, {"paused": 120})


# Holds


def test_every_kind_of_hold_is_counted_also_where_nothing_waits(
    unpaced: Batcher, client: redis.Redis
) -> None:
    fail(unpaced, "c-1", "https://broken.example:443")
    parked = Feedback(Effect.ALIVE, hold_ms=60_000)
    fail(unpaced, "c-2", "https://parked.example:443", parked)
    unpaced.pause("https://paused.example:443")
    for n in range(2):  # the second failure in a row holds it
        claimed = claim_one(unpaced, f"s-{n}", "https://secret.example:443")
        go = begin(unpaced, claimed)
        unpaced.withhold(claimed.id, claimed.token, go.attempt, detail="none")
    assert survey(unpaced.scripts).holds == {"breaker": 1, "park": 1, "paused": 1, "secret": 1}
    told = take(unpaced).health  # a park is no trouble
    assert (told.word, told.reason) == ("ok", "2 destinations in trouble")


def test_a_hold_that_has_ended_is_not_counted_and_forgotten_with_the_next_tick(
    unpaced: Batcher, client: redis.Redis
) -> None:
    fail(unpaced, "c-1")
    unpaced.pause(OTHER)
    assert held(client) == {HOST, OTHER}
    unpaced.resume(HOST)
    assert survey(unpaced.scripts).holds == {"paused": 1}
    assert note_holds_once(unpaced) == 1
    assert held(client) == {OTHER}
    client.delete(key(f"dest:{OTHER}"))  # expired
    assert note_holds_once(unpaced) == 0
    assert not client.exists(key("held"))


def test_a_breaker_keeps_the_time_since_when_it_has_been_open(
    unpaced: Batcher, client: redis.Redis
) -> None:
    fail(unpaced, "c-1")
    client.zadd(key("held"), {HOST: 5})
    client.hdel(key(f"dest:{HOST}"), "hold", "why")
    unpaced.note_holds([HOST])
    fail(unpaced, "c-2")
    assert client.zscore(key("held"), HOST) == 5


def test_holds_are_noted_where_memory_is_full(unpaced: Batcher, client: redis.Redis) -> None:
    claimed = claim_one(unpaced)
    begin(unpaced, claimed)
    client.config_set("maxmemory", 1)
    settle(unpaced, claimed, Outcome.RETRY, feedback=FAULT, delay_ms=HOUR_MS)
    unpaced.pause(OTHER)
    assert unpaced.note_holds([HOST, OTHER, "https://c.example:443"]) == 2
    unpaced.tick("a", 1_000, threads=8, places=4, who=who())
    client.config_set("maxmemory", 0)
    assert held(client) == {HOST, OTHER}


# Workers


def who(**more: object) -> str:
    given = {"host": "worker.1", "pid": 7, "version": "1.2", "kind": "threads", "busy": 3}
    return json.dumps(given | {"broker": "b-1"} | more)


def test_each_worker_says_who_it_is(batcher: Batcher, client: redis.Redis) -> None:
    batcher.tick("a", 1_000, threads=64, places=32, who=who(), running_ms=60_000)
    batcher.tick("b", 1_000, threads=500, places=250, who=who(kind="greenlets", host="worker.2"))
    now = now_ms(client)
    first, second = workers(batcher.scripts, now)
    assert first.since_ms is not None
    assert now - 61_000 < first.since_ms <= now - 60_000
    assert (first.host, first.kind, first.places, first.busy) == ("worker.1", "threads", 64, 3)
    assert (second.host, second.kind, second.places) == ("worker.2", "greenlets", 500)


def test_how_busy_a_worker_is_changes_with_each_tick(batcher: Batcher) -> None:
    for busy in (3, 60):
        now = batcher.tick("a", 1_000, threads=64, places=32, who=who(busy=busy)).now_ms
        assert [worker.busy for worker in workers(batcher.scripts, now)] == [busy]


def test_workers_of_an_older_release_are_read_too(batcher: Batcher, client: redis.Redis) -> None:
    batcher.tick("a", 1_000, threads=64, places=32, who=who())
    now = now_ms(client)
    client.hset(key("workers"), "old", f"16 8 {now + 5_000}")
    assert workers(batcher.scripts, now)[0] == Worker(places=16)
    shown = document(system_status(take(batcher)))["workers"]
    assert [(one["host"], one["places"]) for one in shown] == [(None, 16), ("worker.1", 64)]
    assert take(batcher).overview.now_ms
    client.delete(key("tick"))
    batcher.tick("a", 1_000, threads=64, places=32, who=who())
    assert client.hget(key("state"), "threads") == b"80"


def test_a_worker_that_is_gone_is_forgotten(batcher: Batcher, client: redis.Redis) -> None:
    batcher.tick("gone", 1_000, threads=8, places=4, who=who())
    client.hset(key("workers"), "gone", f"8 4 {now_ms(client) - 1}")
    assert workers(batcher.scripts, now_ms(client)) == []
    client.delete(key("tick"))
    batcher.tick("a", 1_000, threads=8, places=4, who=who(host="worker.2"))
    assert client.hkeys(key("identities")) == [b"a"]
    batcher.tick("a", 1_000)  # no worker any more
    assert not client.exists(key("identities"))


def test_producers_are_those_that_are_no_workers(batcher: Batcher, client: redis.Redis) -> None:
    now = now_ms(client)
    batcher.tick("a", 1_000, threads=8, places=4, who=who(broker="of a worker"))
    beats = {"of a worker": now, "of a producer": now - 3_000, "of a former one": now - 60_000}
    client.zadd("callbacks:__heartbeats__", beats)
    found = take(batcher)
    assert (len(found.workers), found.producers) == (1, 1)


# Sums of times


def test_times_that_cannot_be_stored_are_kept_for_the_next_tick(
    unpaced: Batcher, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed = claim_one(unpaced)
    begin(unpaced, claimed)
    settle(unpaced, claimed, status=200, duration_ms=40, delivery_ms=700)

    def away(*_words: object, **_more: object) -> None:
        raise redis.ConnectionError("away")

    with monkeypatch.context() as patched:
        patched.setattr(unpaced.scripts, "run", away)
        with pytest.raises(redis.ConnectionError):
            unpaced.tick("a", 1_000)
    unpaced.tick("a", 1_000)
    unpaced.tick("a", 1_000)
    found = attempts(unpaced.scripts)
    assert (found.duration_ms, found.delay_ms) == (40, 700)
    assert [one.count for one in found.counted] == [1]


def test_a_stale_settle_counts_no_attempt(unpaced: Batcher, inspector: Inspector) -> None:
    claimed = claim_one(unpaced)
    begin(unpaced, claimed)
    settle(unpaced, claimed, attempt=2)
    assert attempts(inspector.scripts).counted == ()
    settle(unpaced, claimed)
    settle(unpaced, claimed)  # repeated
    assert [one.count for one in attempts(inspector.scripts).counted] == [1]
