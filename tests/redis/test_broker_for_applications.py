"""What an application may expect of `RedisBroker` on its own queues holds with our broker.

Every test runs with both, so that it expects the same from ours as from Dramatiq's.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import dramatiq
import pytest
import redis
from dramatiq import Message, Worker
from dramatiq.brokers.redis import RedisBroker
from dramatiq.errors import ConnectionClosed, QueueJoinTimeout

from callbacks.batcher.client import connect
from callbacks.settings import load_settings
from callbacks.worker.broker import CallbacksBroker
from tests.support.server import Server

QUEUE = "pictures"
JOIN_MS = 20_000
Brokers = Callable[[], RedisBroker]
Workers = Callable[..., Worker]


@pytest.fixture(params=["dramatiq", "ours"])
def another(
    request: pytest.FixtureRequest, server: Server, client: redis.Redis
) -> Iterator[Brokers]:
    """Makes brokers, each as if in its own process."""
    clients: list[redis.Redis] = []

    def make() -> RedisBroker:
        broker: RedisBroker
        if request.param == "ours":
            clients.append(connect(load_settings({"REDIS_URL": server.url})))
            made = clients[-1]
            broker = CallbacksBroker(lambda: (made, "app"))
        else:
            clients.append(server.client())
            broker = RedisBroker(client=clients[-1], namespace="app")
        broker.declare_queue(QUEUE)
        return broker

    yield make
    for each in clients:
        each.close()
        each.connection_pool.disconnect()


@pytest.fixture
def broker(another: Brokers) -> RedisBroker:
    return another()


@pytest.fixture
def work() -> Iterator[Workers]:
    """Starts workers; each ends with the test."""
    started: list[Worker] = []

    def start(broker: RedisBroker, *, threads: int = 4) -> Worker:
        started.append(Worker(broker, worker_timeout=50, worker_threads=threads))
        started[-1].start()
        return started[-1]

    yield start
    for each in started:
        each.stop()


def message(n: int = 0, **options: Any) -> Message[Any]:
    return Message(QUEUE, "actor", (n,), {"key": "word"}, options)


def put(broker: RedisBroker, count: int) -> None:
    for n in range(count):
        broker.enqueue(message(n))


def fetch(consumer: Any, count: int) -> list[Any]:
    """The next messages; a poll that finds none counts, too."""
    return [next(consumer) for _ in range(count)]


def numbers(messages: list[Any]) -> list[Any]:
    return [one and one.args[0] for one in messages]


# Queues and messages


def test_a_queue_that_is_declared_is_known_with_its_delay_queue(broker: RedisBroker) -> None:
    assert broker.get_declared_queues() == {QUEUE}
    assert broker.delay_queues == {f"{QUEUE}.DQ"}


def test_messages_come_in_their_order_with_all_that_is_in_them(broker: RedisBroker) -> None:
    sent = [broker.enqueue(message(n, tag=n)) for n in range(3)]
    got = fetch(broker.consume(QUEUE, prefetch=10, timeout=1), 3)
    for one, other in zip(got, sent, strict=True):
        assert one.message_id == other.message_id
        assert (one.args, one.kwargs) == (other.args, {"key": "word"})
        assert one.options["tag"] == other.options["tag"]


def test_no_more_is_fetched_than_was_asked_for_until_something_ends(broker: RedisBroker) -> None:
    put(broker, 5)
    consumer: Any = broker.consume(QUEUE, prefetch=2, timeout=1)
    first, second, third = fetch(consumer, 3)
    assert numbers([first, second, third]) == [0, 1, None]
    assert consumer.outstanding_message_count == 2
    consumer.ack(first)
    assert numbers(fetch(consumer, 2)) == [2, None]


def test_an_empty_queue_gives_none(broker: RedisBroker) -> None:
    assert fetch(broker.consume(QUEUE, timeout=1), 2) == [None, None]


def test_each_message_comes_to_one_of_several_processes(
    broker: RedisBroker, another: Brokers
) -> None:
    put(broker, 10)
    consumers = [each.consume(QUEUE, prefetch=3, timeout=1) for each in (broker, another())]
    got = [next(consumer) for _ in range(3) for consumer in consumers]
    assert sorted(numbers(got)) == list(range(6))


def test_what_is_acknowledged_is_gone(broker: RedisBroker, client: redis.Redis) -> None:
    put(broker, 1)
    consumer = broker.consume(QUEUE, timeout=1)
    got = next(consumer)
    assert got is not None
    assert broker.do_qsize(QUEUE) == 2  # the message, and that it is held
    consumer.ack(got)
    assert broker.do_qsize(QUEUE) == 0
    assert client.keys("app:*pictures*") == []


def test_what_is_given_up_is_kept_with_the_dead_letters(
    broker: RedisBroker, client: redis.Redis
) -> None:
    put(broker, 1)
    consumer = broker.consume(QUEUE, timeout=1)
    got = next(consumer)
    assert got is not None
    consumer.nack(got)
    assert broker.do_qsize(QUEUE) == 0
    (kept,) = client.hvals(f"app:{QUEUE}.XQ.msgs")
    assert Message.decode(kept).message_id == got.message_id
    assert client.zcard(f"app:{QUEUE}.XQ") == 1


def test_what_is_given_back_comes_to_somebody_else(broker: RedisBroker, another: Brokers) -> None:
    put(broker, 2)
    consumer = broker.consume(QUEUE, prefetch=2, timeout=1)
    consumer.requeue(fetch(consumer, 2))
    consumer.requeue([])
    assert numbers(fetch(another().consume(QUEUE, prefetch=2, timeout=1), 2)) == [0, 1]


def test_a_delayed_message_waits_in_the_delay_queue(broker: RedisBroker) -> None:
    before = time.time() * 1_000
    broker.enqueue(message(7), delay=60_000)
    assert next(broker.consume(QUEUE, timeout=1)) is None
    got = next(broker.consume(f"{QUEUE}.DQ", timeout=1))
    assert got is not None
    assert got.queue_name == f"{QUEUE}.DQ"
    assert got.options["eta"] >= before + 59_000


def test_a_flush_drops_a_queue_with_what_is_delayed_and_no_other(broker: RedisBroker) -> None:
    broker.declare_queue("other")
    put(broker, 3)
    broker.enqueue(message(), delay=60_000)
    broker.enqueue(Message("other", "actor", (), {}, {}))
    broker.flush(QUEUE)
    assert broker.do_qsize(QUEUE) == 0
    assert broker.do_qsize("other") == 1
    broker.flush_all()
    assert broker.do_qsize("other") == 0


def test_a_join_ends_with_the_last_message_or_with_its_time(broker: RedisBroker) -> None:
    broker.join(QUEUE, timeout=JOIN_MS)
    put(broker, 1)
    with pytest.raises(QueueJoinTimeout):
        broker.join(QUEUE, interval=1, timeout=20)
    broker.flush(QUEUE)
    broker.join(QUEUE, timeout=JOIN_MS)


# While Redis is away


@pytest.mark.parametrize("end", ["ack", "nack"])
def test_what_cannot_be_ended_makes_room_and_can_be_ended_later(
    broker: RedisBroker, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    def away(**given: Any) -> None:
        raise redis.ConnectionError("away")

    put(broker, 3)
    consumer: Any = broker.consume(QUEUE, prefetch=2, timeout=1)
    first, second = fetch(consumer, 2)
    with monkeypatch.context() as patch:
        patch.setitem(broker.scripts, "dispatch", away)
        with pytest.raises(ConnectionClosed):
            getattr(consumer, end)(first)
        assert consumer.outstanding_message_count == 1
    assert numbers(fetch(consumer, 2)) == [2, None]  # room for one, and nothing twice
    assert consumer.outstanding_message_count == 2
    getattr(consumer, end)(first)
    assert consumer.outstanding_message_count == 2
    consumer.ack(second)
    assert consumer.outstanding_message_count == 1


def test_a_fetch_that_fails_is_the_error_that_consumer_threads_survive(
    broker: RedisBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(**given: Any) -> None:
        raise redis.ConnectionError("away")

    put(broker, 1)
    consumer: Any = broker.consume(QUEUE, timeout=1)
    with monkeypatch.context() as patch:
        patch.setitem(broker.scripts, "dispatch", away)
        with pytest.raises(ConnectionClosed):
            next(consumer)
    assert consumer.outstanding_message_count == 0
    assert numbers(fetch(consumer, 1)) == [0]


# With workers


def test_a_worker_runs_all_messages_and_a_join_waits_for_them(
    broker: RedisBroker, work: Workers
) -> None:
    done: list[int] = []

    @dramatiq.actor(broker=broker, queue_name=QUEUE)
    def add(n: int) -> None:
        done.append(n)

    for n in range(100):
        add.send(n)
    worker = work(broker)
    broker.join(QUEUE, interval=5, timeout=JOIN_MS)
    worker.join()
    assert sorted(done) == list(range(100))


def test_a_failure_is_tried_again_and_then_given_up(
    broker: RedisBroker, work: Workers, client: redis.Redis
) -> None:
    calls: list[str] = []

    @dramatiq.actor(
        broker=broker, queue_name=QUEUE, max_retries=2, min_backoff=1, max_backoff=5, throws=OSError
    )
    def fail(name: str, times: int) -> None:
        calls.append(name)
        if calls.count(name) <= times:
            raise RuntimeError(name)

    fail.send("once", 1)
    fail.send("always", 9)
    work(broker)
    broker.join(QUEUE, interval=5, timeout=JOIN_MS)
    assert (calls.count("once"), calls.count("always")) == (2, 3)
    assert client.zcard(f"app:{QUEUE}.XQ") == 1


def test_a_delayed_message_runs_when_it_is_due(broker: RedisBroker, work: Workers) -> None:
    ran: list[float] = []

    @dramatiq.actor(broker=broker, queue_name=QUEUE)
    def tell() -> None:
        ran.append(time.time())

    due = time.time() + 0.3
    tell.send_with_options(delay=300)
    work(broker)
    broker.join(QUEUE, interval=5, timeout=JOIN_MS)
    (at,) = ran
    assert at >= due - 0.01


def test_a_worker_that_stops_leaves_the_rest_to_others(
    broker: RedisBroker, another: Brokers, work: Workers
) -> None:
    done: list[int] = []
    began, go_on = threading.Event(), threading.Event()

    def declare(broker: RedisBroker) -> Any:
        @dramatiq.actor(broker=broker, queue_name=QUEUE)
        def add(n: int) -> None:
            began.set()
            assert go_on.wait(20)
            done.append(n)

        return add

    actor = declare(broker)
    for n in range(20):
        actor.send(n)
    first = work(broker, threads=1)
    assert began.wait(20)
    threading.Timer(0.05, go_on.set).start()
    first.stop()
    other = another()
    declare(other)
    work(other)
    other.join(QUEUE, interval=5, timeout=JOIN_MS)
    assert sorted(done) == list(range(20))


def test_a_worker_that_is_paused_begins_nothing_until_it_goes_on(
    broker: RedisBroker, work: Workers
) -> None:
    done: list[int] = []

    @dramatiq.actor(broker=broker, queue_name=QUEUE)
    def add(n: int) -> None:
        done.append(n)

    worker = work(broker)
    worker.pause()
    for n in range(5):
        add.send(n)
    assert broker.do_qsize(QUEUE) == 5
    assert done == []
    worker.resume()
    broker.join(QUEUE, interval=5, timeout=JOIN_MS)
    assert sorted(done) == list(range(5))
