"""Calls that hang: neither their callers nor others wait for ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from callbacks.delivery import daemon_pool
from callbacks.delivery.daemon_pool import DaemonPool, TooManyHang
from callbacks.delivery.deadline import Deadline


class Hanging:
    """A function that hangs for keys above 0 until the test ends, and returns others."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.called: list[int] = []
        self.pool = DaemonPool(self, name="call")

    def __call__(self, key: int) -> int:
        self.called.append(key)
        if key > 0:
            self.released.wait(30)
        return key

    def hang(self, *keys: int) -> None:
        """Call each and give up on it."""
        with ThreadPoolExecutor(daemon_pool.MAX_CALLS // 2) as callers:
            for error in callers.map(self._error_of, keys):
                assert isinstance(error, TimeoutError)

    def _error_of(self, key: int) -> BaseException:
        while True:
            with pytest.raises((TimeoutError, TooManyHang)) as caught:
                self.pool.result(key, Deadline(0.1))
            if key in self.called or len(self.called) >= daemon_pool.MAX_HANGING:
                return caught.value


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    made = Hanging()
    yield made
    made.released.set()
    wait_until(lambda: made.pool.under_way() == 0)  # every thread is free again


def test_others_get_through_while_two_hundred_calls_hang_for_ever(hanging: Hanging) -> None:
    hanging.hang(*range(1, 201))
    assert hanging.pool.under_way() == 200
    for key in range(-100, 1):
        assert hanging.pool.result(key, Deadline(10)) == key


def test_others_wait_no_longer_than_those_before_them_have(hanging: Hanging) -> None:
    every_place = daemon_pool.MAX_CALLS // 2

    def briefly(key: int) -> int:
        return hanging.pool.result(key, Deadline(1))  # counted from when its thread runs

    with ThreadPoolExecutor(every_place) as callers:
        before = [callers.submit(briefly, key) for key in range(1, every_place + 1)]
        wait_until(lambda: hanging.pool.under_way() == every_place)
        assert hanging.pool.result(0, Deadline(10)) == 0
    assert {type(each.exception()) for each in before} == {TimeoutError}


@pytest.mark.parametrize("proven", [True, False])
def test_neither_half_waits_for_the_other(hanging: Hanging, proven: bool) -> None:
    places = daemon_pool.MAX_CALLS // 2
    keys = range(1, places + 1)
    with ThreadPoolExecutor(places) as callers:
        waiting = [
            callers.submit(hanging.pool.result, key, Deadline(20), proven=proven) for key in keys
        ]
        wait_until(lambda: hanging.pool.under_way() == places)
        assert hanging.pool.result(-1, Deadline(10), proven=not proven) == -1
        hanging.released.set()
    assert [each.result() for each in waiting] == list(keys)


def test_a_call_that_hangs_is_joined_for_a_minute_and_then_made_anew(
    hanging: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging.hang(7)
    hanging.hang(7)
    assert hanging.called == [7]
    monkeypatch.setattr(daemon_pool, "ABANDON_S", 0.0)
    hanging.hang(7)
    assert hanging.called == [7, 7]
    assert hanging.pool.under_way() == 2


def test_keys_that_hung_before_leave_room_for_those_that_did_not(
    hanging: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon_pool, "ABANDON_S", 0.0)
    monkeypatch.setattr(daemon_pool, "MAX_HANGING", 8)
    hanging.hang(1, 1, 1, 1)
    with pytest.raises(TooManyHang):
        hanging.pool.result(1, Deadline(0.05))
    hanging.hang(2, 3, 4)
    assert hanging.pool.result(0, Deadline(10)) == 0
    hanging.hang(5)
    with pytest.raises(TooManyHang, match="too many calls hang: call"):  # 8 hang: no more threads
        hanging.pool.result(0, Deadline(0.05))
    assert hanging.pool.result(0, Deadline(10), proven=True) == 0


def test_a_call_that_ends_late_makes_room(
    hanging: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon_pool, "MAX_HANGING", 1)
    hanging.hang(1)
    with pytest.raises(TooManyHang):
        hanging.pool.result(0, Deadline(0.05))
    hanging.released.set()
    assert hanging.pool.result(0, Deadline(10)) == 0


def test_what_the_function_raises_comes_out() -> None:
    def fail(key: str) -> None:
        raise SystemExit(key)

    pool = DaemonPool(fail, name="call")
    for _ in range(2):
        with pytest.raises(SystemExit, match="x"):
            pool.result("x", Deadline(10))
    assert pool.under_way() == 0


def wait_until(holds: Callable[[], bool], timeout_s: float = 10.0) -> None:
    ends_at = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < ends_at
        time.sleep(0.002)
