"""Consumers that sleep until they are notified of a message, and what happens without it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import redis
from dramatiq import Message

from callbacks.batcher.client import connect
from callbacks.batcher.keys import arrivals_channel
from callbacks.settings import load_settings
from callbacks.worker import arrivals
from callbacks.worker.arrivals import Arrivals, Listener
from callbacks.worker.broker import CallbacksBroker
from callbacks.worker.consumer import QUEUE
from tests.support.processes import until


def client_of(url: str) -> redis.Redis:
    return connect(load_settings({"REDIS_URL": url, "CALLBACKS_REDIS_MAX_CONNECTIONS": "2"}))


def process(url: str) -> CallbacksBroker:
    broker = CallbacksBroker(lambda: (client_of(url), "callbacks"), middleware=[])
    broker.declare_queue(QUEUE)
    return broker


def message(n: int = 0) -> Message[None]:
    return Message(QUEUE, "actor", (n,), {}, {})


@contextmanager
def listening(broker: CallbacksBroker, url: str) -> Iterator[Listener]:
    listener = Listener(lambda: client_of(url))
    listener.after_worker_boot(broker, None)
    try:
        yield listener
    finally:
        listener.before_worker_shutdown(broker, None)


class Worker:
    """A thread that takes messages as Dramatiq's consumer thread does, and counts its polls."""

    def __init__(self, broker: CallbacksBroker) -> None:
        self.consumer = broker.consume(QUEUE, prefetch=8)
        self.taken: list[tuple[int, float]] = []
        self.looks = 0
        fetch = broker.do_fetch

        def counted(*args: object) -> object:
            self.looks += 1
            return fetch(*args)

        broker.do_fetch = counted
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._broker = broker

    def _run(self) -> None:
        while not self._stop.is_set():
            found = next(self.consumer)
            if found is not None:
                self.taken.append((found.args[0], time.monotonic()))
                self.consumer.ack(found)

    def __enter__(self) -> Worker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._broker.arrivals.wake_all()
        self._thread.join(10)

    def numbers(self) -> list[int]:
        return [n for n, _ in self.taken]


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A consumer that is notified of arrivals polls by itself only after a minute."""
    monkeypatch.setattr("callbacks.worker.consumer.TOLD_POLL_MS", 60_000)


def told(broker: CallbacksBroker) -> Callable[[], bool]:
    return lambda: broker.arrivals.are_told


@pytest.mark.usefixtures("quiet")
def test_an_idle_consumer_sleeps_until_another_process_puts_something_on_its_queue(
    redis_url: str, client: redis.Redis
) -> None:
    ours, other = process(redis_url), process(redis_url)
    with listening(ours, redis_url), Worker(ours) as worker:
        until(told(ours), within=5)
        until(lambda: worker.looks > 0, within=5)
        time.sleep(0.5)
        before = worker.looks
        time.sleep(1)
        assert worker.looks == before
        for n in range(3):
            other.enqueue(message(n))
            until(lambda n=n: worker.numbers() == [*range(n + 1)], within=5)  # type: ignore[misc]
        # Finished messages are acknowledged although the consumer could sleep for a minute.
        until(lambda: not client.keys("*__acks__*"), within=5)


@pytest.mark.usefixtures("quiet")
def test_many_messages_at_once_are_one_notification_and_all_are_taken(redis_url: str) -> None:
    ours, other = process(redis_url), process(redis_url)
    words = client_of(redis_url).pubsub()
    words.subscribe(arrivals_channel("callbacks"))
    with listening(ours, redis_url), Worker(ours) as worker:
        until(told(ours), within=5)
        other.enqueue_many("actor", [((n,), None) for n in range(100)], {})
        until(lambda: len(worker.taken) == 100, within=10)
    heard = []
    while (word := words.get_message(timeout=0.3)) is not None:
        if word["type"] == "message":
            heard.append(word["data"])
    assert b"callbacks:callbacks" in heard
    assert len(heard) <= 3  # the listener's own, and one or two while messages were taken
    words.close()


@pytest.mark.usefixtures("quiet")
def test_messages_that_another_process_returns_are_announced(redis_url: str) -> None:
    ours, other = process(redis_url), process(redis_url)
    other.enqueue(message(7))
    held = other.consume(QUEUE)
    found = next(held)
    assert found is not None
    with listening(ours, redis_url), Worker(ours) as worker:
        until(told(ours), within=5)
        until(lambda: worker.looks > 0, within=5)
        held.requeue([found])
        until(lambda: worker.numbers() == [7], within=5)


@pytest.mark.usefixtures("quiet")
def test_while_its_connection_is_broken_a_consumer_looks_by_itself(
    redis_url: str, client: redis.Redis
) -> None:
    ours, other = process(redis_url), process(redis_url)
    with listening(ours, redis_url), Worker(ours) as worker:
        until(told(ours), within=5)
        for n in range(3):
            assert client.client_kill_filter(_type="pubsub") >= 1
            other.enqueue(message(n))  # nothing may hear of it
            until(lambda n=n: worker.numbers() == [*range(n + 1)], within=5)  # type: ignore[misc]
            until(told(ours), within=10)


def test_a_user_without_the_channel_is_never_notified_and_polls_closely(
    redis_url: str, client: redis.Redis
) -> None:
    client.execute_command(
        "ACL", "SETUSER", "deaf", "on", ">pw", "~*", "resetchannels", "+@all", "-@dangerous"
    )
    url = redis_url.replace("redis://", "redis://deaf:pw@")
    ours, other = process(url), process(url)
    with listening(ours, url), Worker(ours) as worker:
        other.enqueue(message(1))
        until(lambda: worker.numbers() == [1], within=5)
        assert not ours.arrivals.are_told
        looks = worker.looks
        time.sleep(0.5)
        assert worker.looks - looks >= 3
    client.execute_command("ACL", "DELUSER", "deaf")


def test_after_a_message_without_a_notification_a_consumer_polls_closely(
    redis_url: str, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message from a release that does not notify."""
    monkeypatch.setattr("callbacks.worker.consumer.TOLD_POLL_MS", 1_000)
    ours, other = process(redis_url), process(redis_url)
    with listening(ours, redis_url), Worker(ours) as worker:
        until(told(ours), within=5)
        until(lambda: worker.looks > 0, within=5)
        time.sleep(0.2)
        monkeypatch.setattr("callbacks.worker.broker.arrivals_channel", lambda _: "nobody listens")
        other.enqueue(message(1))
        until(lambda: worker.numbers() == [1], within=5)
        assert not ours.arrivals.are_told
        started = time.monotonic()
        other.enqueue(message(2))
        until(lambda: worker.numbers() == [1, 2], within=5)
        assert time.monotonic() - started < 1


@pytest.mark.usefixtures("quiet")
def test_a_connection_that_answers_no_ping_is_given_up(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, client: redis.Redis
) -> None:
    monkeypatch.setattr(arrivals, "PING_S", 0.2)
    ours = process(redis_url)
    with listening(ours, redis_url):
        until(told(ours), within=5)
        time.sleep(1)
        assert ours.arrivals.are_told  # it was polled several times
        client.client_pause(1_500, all=True)
        until(lambda: not ours.arrivals.are_told, within=5)
        until(told(ours), within=10)


@pytest.mark.usefixtures("quiet")
def test_a_connection_that_brings_no_word_is_made_anew(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, client: redis.Redis
) -> None:
    """It may lead to a server that is no primary any more, and hears of nothing."""
    monkeypatch.setattr(arrivals, "PING_S", 0.2)

    def listeners() -> set[str]:
        return {each["id"] for each in client.client_list(_type="pubsub")}

    ours = process(redis_url)
    with listening(ours, redis_url):
        until(told(ours), within=5)
        before = listeners()
        ours.arrivals.missed()
        until(lambda: bool(listeners()) and not listeners() & before, within=10)


@pytest.mark.usefixtures("quiet")
def test_a_word_that_nobody_understands_does_not_end_the_listening(
    redis_url: str, client: redis.Redis
) -> None:
    ours, other = process(redis_url), process(redis_url)
    with listening(ours, redis_url), Worker(ours) as worker:
        until(told(ours), within=5)
        client.publish(arrivals_channel("callbacks"), b"\xff")
        until(lambda: not ours.arrivals.are_told, within=5)
        until(told(ours), within=5)
        other.enqueue(message(1))
        until(lambda: worker.numbers() == [1], within=5)


def test_doubt_ends_after_a_minute() -> None:
    now = [0.0]
    told_of = Arrivals(lambda: now[0])
    assert not told_of.are_told
    with told_of.heard():
        assert told_of.are_told
        told_of.missed()
        now[0] = 59.9
        assert not told_of.are_told
        now[0] = 60.1
        assert told_of.are_told
    assert not told_of.are_told
