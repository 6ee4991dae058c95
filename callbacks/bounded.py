"""Calls of what has no timeout of its own, so that whoever waits can stop waiting."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Hashable
from concurrent.futures import Future, wait
from typing import Any, Final, Generic, TypeVar

from callbacks.deadline import Deadline

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")

MAX_CALLS: Final = 128  # at the same time; a thread each, and more than a worker has threads
ABANDON_S: Final = 60.0  # from then on nobody new waits for a call that hangs


class TooManyHang(Exception):
    """As many calls as there may be have not ended, and none did until the deadline."""


class BoundedCalls(Generic[_K, _V]):
    """Runs a function in daemon threads, for any number of callers.

    A call that hangs keeps its thread until it ends. There are never more than `most` of them,
    and one a minute for each key: a broken server of one customer takes few threads, however
    many callbacks wait for it.
    """

    def __init__(self, function: Callable[[_K], _V], *, name: str, most: int = MAX_CALLS) -> None:
        self._function = function
        self._name = name
        self._most = most
        self.start_anew()
        _all.add(self)

    def start_anew(self) -> None:
        """Forget what runs; in a forked child those threads are not there."""
        self._running: dict[_K, tuple[Future[_V], float]] = {}  # and when it began
        self._abandoned = 0
        self._changed = threading.Condition()

    def result(self, key: _K, deadline: Deadline) -> _V:
        """Give what the function returns for `key`, of a call that may be under way already.

        Raises TimeoutError at the deadline, `TooManyHang`, and whatever the function raises.
        """
        future = self._join(key, deadline)
        if not wait([future], deadline.left()).done:
            raise TimeoutError(f"the {self._name} did not end in time")
        return future.result()

    def _join(self, key: _K, deadline: Deadline) -> Future[_V]:
        with self._changed:
            if not self._changed.wait_for(lambda: self._has_room_for(key), deadline.left()):
                raise TooManyHang(f"too many calls hang: {self._name}")
            return self._under_way(key) or self._start(key)

    def _has_room_for(self, key: _K) -> bool:
        under_way = self._under_way(key)
        return under_way is not None or len(self._running) + self._abandoned < self._most

    def _under_way(self, key: _K) -> Future[_V] | None:
        future, began = self._running.get(key, (None, 0.0))
        return future if time.monotonic() - began < ABANDON_S else None

    def _start(self, key: _K) -> Future[_V]:
        future: Future[_V] = Future()
        args = (key, future)
        # Started before the entry: where that fails, none is left behind.
        threading.Thread(target=self._run, args=args, name=self._name, daemon=True).start()
        self._abandoned += key in self._running
        self._running[key] = future, time.monotonic()
        return future

    def _run(self, key: _K, future: Future[_V]) -> None:
        try:
            found = self._function(key)
        except BaseException as error:  # noqa: BLE001 -- it goes to those who wait
            self._forget(key, future)
            future.set_exception(error)
        else:
            self._forget(key, future)
            future.set_result(found)

    def _forget(self, key: _K, future: Future[_V]) -> None:
        """Before anyone has the answer, so that whoever asks next gets one of their own."""
        with self._changed:
            if key in self._running and self._running[key][0] is future:
                del self._running[key]
            else:
                self._abandoned -= 1
            self._changed.notify_all()


_all: Final[weakref.WeakSet[BoundedCalls[Any, Any]]] = weakref.WeakSet()


def _start_all_anew() -> None:
    for calls in list(_all):
        calls.start_anew()


os.register_at_fork(after_in_child=_start_all_anew)
