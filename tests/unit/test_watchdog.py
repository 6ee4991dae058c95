"""When a process has to end, and when it only waits."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from callbacks.worker.consumer import QUEUE
from callbacks.worker.liveness import Liveness
from callbacks.worker.watchdog import MESSAGES, Watch, Watchdog


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Work:
    """Whether work is due; None: Redis does not answer."""

    def __init__(self) -> None:
        self.due: bool | None = True

    def __call__(self) -> bool:
        if self.due is None:
            raise ConnectionError("away")
        return self.due


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def liveness(clock: Clock) -> Liveness:
    return Liveness(clock)


def look(watch: Watch) -> dict[str, float]:
    return watch.verdict(patience_s=60, confirm_s=30)


def test_a_part_that_does_not_get_on_ends_the_process_at_the_second_look(
    clock: Clock, liveness: Liveness
) -> None:
    watch = Watch(liveness, Work())
    liveness.beat("consumer")
    liveness.beat("ticker")
    clock.now += 61
    liveness.beat("ticker")
    assert look(watch) == {}
    clock.now += 30
    liveness.beat("ticker")
    assert look(watch) == {"consumer": 91.0}


def test_one_that_slept_gets_the_time_to_get_on(clock: Clock, liveness: Liveness) -> None:
    watch = Watch(liveness, Work())
    liveness.beat("consumer")
    clock.now += 3600
    assert look(watch) == {}
    liveness.beat("consumer")
    clock.now += 30
    assert look(watch) == {}
    clock.now += 61
    assert look(watch) == {}  # a new suspicion


@pytest.mark.parametrize("due", [False, None])
def test_without_work_or_without_redis_nobody_has_to_get_on(
    clock: Clock, liveness: Liveness, due: bool | None
) -> None:
    work = Work()
    watch = Watch(liveness, work)
    liveness.beat("consumer")
    for _ in range(10):
        work.due = True
        clock.now += 61
        assert look(watch) == {}
        work.due = due
        clock.now += 30
        assert look(watch) == {}


def test_an_outage_that_ends_just_before_a_look_leaves_time_to_come_back(
    clock: Clock, liveness: Liveness
) -> None:
    work = Work()
    watch = Watch(liveness, work)
    liveness.beat("consumer")
    work.due = None
    for _ in range(100):
        clock.now += 30
        assert look(watch) == {}
    clock.now += 61
    work.due = True
    assert look(watch) == {}
    liveness.beat("consumer")
    clock.now += 30
    assert look(watch) == {}


def test_messages_have_to_end_only_while_some_of_ours_are_in_work(
    clock: Clock, liveness: Liveness
) -> None:
    dog = Watchdog(liveness, Work(), lambda: 10.0, lambda: 3.0)
    ours = [SimpleNamespace(queue_name=QUEUE, message_id=n) for n in range(2)]
    other = SimpleNamespace(queue_name="default", message_id=9)
    dog.before_process_message(None, other)
    assert liveness.stale(-1) == {}
    dog.before_process_message(None, ours[0])
    clock.now += 50
    dog.before_process_message(None, ours[1])
    assert liveness.stale(40) == {MESSAGES: 50}  # another one that begins is not progress
    dog.after_process_message(None, ours[1])
    assert liveness.stale(40) == {}
    dog.after_process_message(None, other)
    clock.now += 50
    assert liveness.stale(40) == {MESSAGES: 50}
    dog.after_skip_message(None, ours[0])
    clock.now += 50
    assert liveness.stale(40) == {}


def test_a_message_that_begins_while_the_last_one_ends_is_watched(clock: Clock) -> None:
    class Interleaved(Liveness):
        """Another thread's message begins, if it can, during the drop."""

        def drop(self, name: str) -> None:
            begins.start()
            begins.join(0.2)
            super().drop(name)

    liveness = Interleaved(clock)
    dog = Watchdog(liveness, Work(), lambda: 10.0, lambda: 3.0)
    first, second = (SimpleNamespace(queue_name=QUEUE, message_id=n) for n in range(2))
    begins = threading.Thread(target=dog.before_process_message, args=(None, second))
    dog.before_process_message(None, first)
    dog.after_process_message(None, first)
    begins.join()
    clock.now += 50
    assert liveness.stale(40) == {MESSAGES: 50}


def test_what_is_dropped_while_all_are_forgiven_does_not_come_back(clock: Clock) -> None:
    liveness = Liveness(clock)
    liveness.beat("ticker")
    liveness.beat(MESSAGES)
    drops = threading.Thread(target=liveness.drop, args=(MESSAGES,))

    def meanwhile() -> float:
        if drops.ident is None:
            drops.start()
            drops.join(0.2)
        return clock.now

    liveness._monotonic = meanwhile
    liveness.forgive()
    drops.join()
    clock.now += 50
    assert liveness.stale(40) == {"ticker": 50}
