"""What our broker keeps in Redis, and cleans up."""

from __future__ import annotations

import time

import pytest
import redis
from dramatiq import Message

from callbacks.worker.broker import CLOCK_OFF_MS, DEAD_MESSAGE_TTL_MS, CallbacksBroker, Heartbeats
from callbacks.worker.consumer import QUEUE

APP = "pictures"


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def forget(broker: CallbacksBroker, passes: int = 1) -> list[int]:
    """Detect dead workers a minute after a first look, in several passes."""
    clock = Clock()
    broker._heartbeats = Heartbeats(60, clock)
    assert broker.forget_dead_workers() == 0
    clock.now += 61
    return [broker.forget_dead_workers() for _ in range(passes)]


def process(client: redis.Redis, *queues: str) -> CallbacksBroker:
    broker = CallbacksBroker(lambda: (client, "callbacks"), middleware=[])
    for queue_name in queues:
        broker.declare_queue(queue_name)
    return broker


def die_with_messages(client: redis.Redis) -> CallbacksBroker:
    """An application's process with our broker: it fetched three messages and was killed."""
    dead = process(client, QUEUE, APP)
    for queue_name, delay in ((QUEUE, None), (APP, None), (APP, 60_000)):
        dead.enqueue(Message(queue_name, "actor", (), {}, {}), delay=delay)
    for queue_name in (QUEUE, APP, f"{APP}.DQ"):
        assert next(dead.consume(queue_name)) is not None
    client.zadd("callbacks:__heartbeats__", {dead.broker_id: 1})
    return dead


def test_an_applications_messages_of_a_dead_process_go_back_to_their_queues(
    client: redis.Redis,
) -> None:
    dead = die_with_messages(client)
    ours = process(client, QUEUE)  # it does not know the application's queues
    assert forget(ours) == [3]
    assert client.zscore("callbacks:__heartbeats__", dead.broker_id) is None
    assert not client.keys("*__acks__*")
    assert client.hlen(f"callbacks:{QUEUE}.msgs") == 0
    for queue_name in (APP, f"{APP}.DQ"):
        message = next(ours.consume(queue_name))
        assert message is not None
        assert message.actor_name == "actor"


def test_a_process_knows_its_own_queues_though_their_names_were_deleted(
    client: redis.Redis,
) -> None:
    die_with_messages(client)
    client.delete("callbacks:__queues__")
    assert forget(process(client, QUEUE, APP)) == [3]
    assert client.smembers("callbacks:__queues__") == {APP.encode(), f"{APP}.DQ".encode()}


@pytest.mark.parametrize("off_ms", [-86_400_000, 86_400_000], ids=["a day behind", "a day ahead"])
def test_a_dead_worker_is_known_by_a_still_heartbeat_not_by_its_clock(
    client: redis.Redis, off_ms: int
) -> None:
    dead, ours, clock = die_with_messages(client), process(client, QUEUE), Clock()
    ours._heartbeats = Heartbeats(60, clock)
    client.zadd("callbacks:__heartbeats__", {dead.broker_id: 10**12 + off_ms})
    for at in range(3):
        client.zadd("callbacks:__heartbeats__", {"alive": 10**12 + off_ms + at})
        assert ours.forget_dead_workers() == 0
        clock.now += 30
    client.zadd("callbacks:__heartbeats__", {"alive": 10**12 + off_ms + 3})
    assert ours.forget_dead_workers() == 3
    assert client.zrange("callbacks:__heartbeats__", 0, -1) == [b"alive"]


def test_many_dead_processes_do_not_stand_in_the_way_of_others(client: redis.Redis) -> None:
    client.zadd("callbacks:__heartbeats__", {f"long dead {n}": n for n in range(30)})
    dead, ours = die_with_messages(client), process(client, QUEUE)
    client.zadd("callbacks:__heartbeats__", {dead.broker_id: 100})
    assert forget(ours, 2) == [0, 3]


def test_what_an_applications_actors_gave_up_is_kept_for_a_week(client: redis.Redis) -> None:
    broker = process(client, QUEUE, APP)
    consumer = broker.consume(APP)
    for _ in range(2):
        broker.enqueue(Message(APP, "actor", (), {}, {}))
        message = next(consumer)
        assert message is not None
        consumer.nack(message)
    key = f"callbacks:{APP}.XQ"
    old, recent = client.zrange(key, 0, -1)
    client.zincrby(key, -DEAD_MESSAGE_TTL_MS, old)
    broker.forget_dead_workers()
    assert client.zrange(key, 0, -1) == client.hkeys(f"{key}.msgs") == [recent]


@pytest.mark.parametrize(
    ("off_ms", "took_ms", "learnt_ms"),
    [(90_000, 2, 90_000), (-90_000, 400, -90_000), (60, 2, 0), (250, 600, 7)],
    ids=["far", "far and slow", "near", "too slow to tell"],
)
def test_a_clock_that_is_off_is_learnt_as_well_as_the_answer_tells(
    client: redis.Redis, off_ms: int, took_ms: int, learnt_ms: int
) -> None:
    broker = process(client)
    broker._clock_off_ms = 7
    broker.set_clock(round(time.time() * 1_000 + off_ms - took_ms / 2), took_ms=took_ms)
    assert broker._clock_off_ms == pytest.approx(learnt_ms, abs=CLOCK_OFF_MS / 2)


def test_our_own_queues_are_not_registered(client: redis.Redis) -> None:
    process(client, QUEUE).consume(QUEUE)
    assert not client.exists("callbacks:__queues__")
