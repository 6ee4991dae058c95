"""What our broker assumes about Dramatiq's private parts, and what it adds."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from typing import Any

import dramatiq
import pytest
import redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq.brokers.stub import StubBroker
from dramatiq.errors import ConnectionClosed
from dramatiq.middleware import Middleware, SkipMessage

from callbacks.batcher.client import connect
from callbacks.runtime import broker as ours
from callbacks.settings import load_settings
from callbacks.worker import middleware
from callbacks.worker.broker import CallbacksBroker
from callbacks.worker.compatibility import misfit


def away() -> tuple[redis.Redis, str]:
    """A client whose Redis is away: nothing listens on that port."""
    return connect(load_settings({"REDIS_URL": "redis://127.0.0.1:1"})), "x"


def test_this_dramatiq_has_the_private_parts_that_we_know() -> None:
    assert misfit() == ""


def test_our_broker_sets_everything_that_theirs_does() -> None:
    plain = set(vars(RedisBroker(client=redis.Redis(), middleware=[])))
    provided = set(vars(CallbacksBroker(lambda: (redis.Redis(), "x"), middleware=[])))
    assert plain - provided == {"client", "namespace", "scripts"}  # our properties


def test_making_a_broker_connects_to_nothing() -> None:
    def connect() -> tuple[redis.Redis, str]:
        raise AssertionError("connected")

    CallbacksBroker(connect, middleware=[])


def test_every_error_of_redis_becomes_the_one_that_consumer_threads_survive() -> None:
    broker = CallbacksBroker(away, middleware=[])
    broker.declare_queue("callbacks")
    message: dramatiq.Message[None] = dramatiq.Message("callbacks", "a", (), {}, {})
    with pytest.raises(ConnectionClosed):
        broker.enqueue(message)


def test_a_scheduled_message_that_cannot_be_sent_is_dropped_instead() -> None:
    broker = CallbacksBroker(away, middleware=[])
    message: dramatiq.Message[None] = dramatiq.Message(
        "callbacks", "a", (), {}, {"scheduled_at": "2026-01-01 00:00:00+00:00"}
    )
    assert broker.enqueue(message).actor_name == "a"


def test_maintenance_by_dice_is_off() -> None:
    assert ours.maintenance_chance == 0


def test_the_actors_carry_what_the_contract_says() -> None:
    actors = {name: actor.options for name, actor in ours.actors.items()}
    assert set(actors) == {
        "trigger_batch_send", "send_single_callback", "check_and_flush", "cleanup_stuck"
    }  # fmt: skip
    assert actors["send_single_callback"]["max_retries"] == 2
    for periodic in ("check_and_flush", "cleanup_stuck"):
        assert str(actors[periodic]["periodic"]) == "* * * * *"
    assert {actor.queue_name for actor in ours.actors.values()} == {"callbacks"}
    assert {actor.broker for actor in ours.actors.values()} == {ours}


def test_only_the_first_of_two_signals_comes_through() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        middleware.only_once(signal.SIGTERM)
        for _ in range(3):
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [signal.SIGTERM]


IMPORT = """
    import logging, socket, sys, threading
    def refuse(*args, **kwargs):
        raise AssertionError("opened a socket")
    socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
    import dramatiq
    {before}
    import callbacks
    assert threading.active_count() == 1, threading.enumerate()
    assert not logging.getLogger().handlers
    assert not logging.getLogger("callbacks").handlers
    {after}
"""


def run_import(before: str, after: str) -> None:
    code = textwrap.dedent(IMPORT).format(before=before, after=after)
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=30)


def test_importing_opens_nothing_starts_nothing_and_gives_dramatiq_our_broker() -> None:
    run_import(
        "",
        "from callbacks.runtime import broker; assert dramatiq.get_broker() is broker",
    )


def test_importing_leaves_the_broker_of_an_application_alone() -> None:
    run_import(
        "from dramatiq.brokers.stub import StubBroker; mine = StubBroker();"
        " dramatiq.set_broker(mine)",
        "assert dramatiq.get_broker() is mine;"
        " assert callbacks.trigger_batch_send.broker is not mine",
    )


def test_importing_with_a_wrong_setting_is_no_error_until_it_is_needed() -> None:
    run_import("import os; os.environ['CALLBACKS_BATCH_SIZE'] = 'many'", "")


def test_a_retry_of_ours_that_cannot_be_sent_is_left_to_the_ticker() -> None:
    broker = CallbacksBroker(away, middleware=[])
    broker.declare_queue("callbacks")
    broker.declare_queue("pictures")
    retries = {"retries": 1}
    broker.enqueue(dramatiq.Message("callbacks", "a", (), {}, dict(retries)), delay=30_000)
    for queue_name, options in (("pictures", retries), ("callbacks", {})):
        with pytest.raises(ConnectionClosed):
            broker.enqueue(dramatiq.Message(queue_name, "a", (), {}, dict(options)), delay=30_000)


class Listening(Middleware):
    """Notes the signals that it has methods for."""

    def __init__(self, name: str, heard: list[str], error: Exception | None = None) -> None:
        self.name, self.heard, self.error = name, heard, error

    def before_ack(self, broker: Any, message: Any) -> None:
        self.heard.append(f"{self.name} before {message}")
        if self.error:
            raise self.error

    def after_ack(self, broker: Any, message: Any) -> None:
        self.heard.append(f"{self.name} after {message}")
        if self.error:
            raise self.error


def test_a_signal_reaches_whoever_listens_in_dramatiqs_order_those_too_that_come_later() -> None:
    heard: list[str] = []
    broker = CallbacksBroker(away, middleware=[Listening("1", heard), Middleware()])
    broker.emit_before("ack", "a")
    assert heard == ["1 before a"]
    broker.add_middleware(Listening("2", heard), before=Listening)
    broker.emit_before("ack", "b")
    broker.emit_after("ack", "b")
    broker.emit_after("nack", "b")  # nobody listens
    assert heard[1:] == ["2 before b", "1 before b", "1 after b", "2 after b"]


def test_a_fault_of_a_middleware_is_logged_and_keeps_no_other_from_hearing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    heard: list[str] = []
    faulty = Listening("1", heard, ValueError("no"))
    broker = CallbacksBroker(away, middleware=[faulty, Listening("2", heard)])
    caplog.clear()
    broker.emit_before("ack", "a")
    broker.emit_after("ack", "a")
    assert heard == ["1 before a", "2 before a", "2 after a", "1 after a"]
    assert [record.getMessage().split(" of ")[0] for record in caplog.records] == [
        "Unexpected failure in before_ack",
        "Unexpected failure in after_ack",
    ]
    faulty.error = SkipMessage()
    with pytest.raises(SkipMessage):
        broker.emit_before("ack", "a")


class Foreign:
    """No Middleware of Dramatiq's: it has a method for one signal, and for one that is its own."""

    actor_options: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self.heard: list[str] = []

    def before_ack(self, broker: Any, message: Any) -> None:
        self.heard.append(f"ack {message}")

    def after_sweep(self, broker: Any) -> None:
        self.heard.append("sweep")


def test_a_middleware_need_not_have_every_method_and_signals_can_be_an_applications_own() -> None:
    foreign = Foreign()
    broker = CallbacksBroker(away, middleware=[Middleware(), foreign])
    broker.emit_before("ack", "a")
    broker.emit_after("ack", "a")
    broker.emit_after("sweep")
    broker.emit_before("sweep")
    assert foreign.heard == ["ack a", "sweep"]


@pytest.mark.parametrize(
    ("queues", "ours"),
    [(None, True), ({"callbacks", "emails"}, True), ({"emails"}, False)],
    ids=["all", "ours too", "others only"],
)
def test_threads_of_a_worker_that_leaves_our_queue_out_are_no_places(
    queues: set[str] | None, *, ours: bool
) -> None:
    opened: list[tuple[int, bool]] = []
    boot = middleware.Boot(
        lambda: None, lambda: None, lambda: None, lambda *said: opened.append(said)
    )
    boot.before_worker_boot(None, dramatiq.Worker(StubBroker(), queues=queues, worker_threads=3))
    assert opened == [(3, ours)]
