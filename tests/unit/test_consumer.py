"""How many messages a consumer fetches."""

from __future__ import annotations

from typing import Any

import pytest

from callbacks.worker.broker import CallbacksBroker
from callbacks.worker.consumer import QUEUE, Consumer, Pace


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def consumer(threads: int, queue_name: str = QUEUE) -> Any:
    def none() -> Any:
        raise AssertionError("needs no Redis")

    broker = CallbacksBroker(none, middleware=[])
    broker.threads = threads
    return Consumer(broker, queue_name, 2 * threads or 16, 5_000)


def hold(made: Any, count: int) -> int:
    """With so many messages fetched and not ended: how many more to fetch."""
    made.queued_message_ids = {str(n) for n in range(count)}
    return int(made._room())


def test_a_pace_is_that_of_the_last_tenth_of_a_second() -> None:
    clock = Clock()
    pace = Pace(clock)
    for _ in range(30):
        pace.count()
    assert pace.soon() == 0  # not yet known
    clock.now += 0.3
    assert pace.soon() == 10
    clock.now += 0.05
    pace.count()
    assert pace.soon() == 10
    clock.now += 10
    assert pace.soon() == 0


@pytest.mark.parametrize(
    ("soon", "held", "room"),
    [
        (0, 0, 64),
        (0, 63, 1),  # a thread is free
        (0, 64, 0),  # another process may have one
        (12, 64, 0),  # a few more could be there, which is not worth a command
        (12, 63, 13),
        (40, 64, 40),
        (500, 0, 128),  # what Dramatiq lets it hold
        (500, 100, 0),
        (500, 96, 32),
    ],
)
def test_no_more_of_ours_are_fetched_than_threads_can_begin_soon(
    soon: int, held: int, room: int
) -> None:
    made = consumer(64)
    made._pace._soon = soon
    assert hold(made, held) == room


@pytest.mark.parametrize("queue_name", [f"{QUEUE}.DQ", "pictures"])
def test_other_queues_are_fetched_as_dramatiq_does(queue_name: str) -> None:
    assert hold(consumer(64, queue_name), 100) == 28


def test_where_no_worker_has_booted_there_is_no_limit_of_ours() -> None:
    assert hold(consumer(0), 10) == 6
