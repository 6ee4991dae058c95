"""A worker process's places, which nothing keeps when it is stopped midway."""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from callbacks.worker.places import Places


class Stopped(Exception):
    """Like Dramatiq's `TimeLimitExceeded` and `Shutdown`."""


@pytest.mark.parametrize(
    ("total", "share", "most"), [(64, 0.25, 16), (64, 0.333, 21), (5, 0.5, 2), (2, 0.25, 1)]
)
def test_a_process_has_its_share_of_places_and_one_at_least(
    total: int, share: float, most: int
) -> None:
    places = Places()
    assert places.unproven_most == 0
    places.open(total, share)
    assert places.unproven_most == most


def test_there_are_as_many_places_as_are_not_taken_and_not_overdue() -> None:
    now = [0.0]
    places = Places(lambda: now[0])
    places.open(4, 0.5)
    with places.watching(1), places.taking() as first, places.taking() as second:
        assert (first, second) == (True, True)
        with places.taking() as third:
            assert not third
    with places.watching(1):
        now[0] = 1.0
        with places.taking() as first, places.taking() as second:
            assert (first, second) == (True, False)


@pytest.fixture
def hasty_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.skipif(
    sys.version_info[:2] == (3, 14),
    reason="CPython 3.14 itself may leave a lock taken then (python/cpython#148874)",
)
@pytest.mark.usefixtures("hasty_switches")
def test_an_exception_raised_in_a_thread_at_any_bytecode_leaves_no_place_taken() -> None:
    places = Places()
    places.open(10**6, 1)
    for _ in range(300):
        working = threading.Event()
        thread = threading.Thread(target=work_until_stopped, args=(places, working))
        thread.start()
        working.wait()
        ident = ctypes.c_ulong(thread.ident or 0)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(Stopped))
        thread.join()
    gc.collect()
    assert (len(places._taken), len(places._overdue_from)) == (0, 0)


def work_until_stopped(places: Places, working: threading.Event) -> None:
    with suppress(Stopped):
        working.set()
        while True:
            with places.taking(), places.watching(0):
                pass
