"""What our broker assumes about Dramatiq's private parts, and what it adds."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap

import dramatiq
import pytest
import redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq.errors import ConnectionClosed

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
