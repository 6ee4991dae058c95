"""Calls of what has no timeout of its own, so that whoever waits can stop waiting."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Hashable
from concurrent.futures import Future, wait
from typing import Any, Final, Generic, TypeVar

from callbacks.deadline import Deadline

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")

MAX_CALLS: Final = 128  # at the same time; a thread each, and more than a worker has threads


class TooManyHang(Exception):
    """As many calls as there may be have not ended, and none did until the deadline."""


class BoundedCalls(Generic[_K, _V]):
    """Runs a function in daemon threads, for any number of callers.

    A call that hangs keeps its thread until it ends. There are never more than `most` of them,
    and one for each key: a broken server of one customer takes one thread, however many
    callbacks wait for it.
    """

    def __init__(self, function: Callable[[_K], _V], *, name: str, most: int = MAX_CALLS) -> None:
        self._function = function
        self._name = name
        self._most = most
        self.start_anew()
        _all.add(self)

    def start_anew(self) -> None:
        """Forget what runs; in a forked child those threads are not there."""
        self._running: dict[_K, Future[_V]] = {}
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
            future = self._running.get(key)
            if future is None:
                future = Future()
                thread = threading.Thread(
                    target=self._run, args=(key, future), name=self._name, daemon=True
                )
                thread.start()  # before the entry: where it fails, none is left behind
                self._running[key] = future
            return future

    def _has_room_for(self, key: _K) -> bool:
        return key in self._running or len(self._running) < self._most

    def _run(self, key: _K, future: Future[_V]) -> None:
        try:
            found = self._function(key)
        except BaseException as error:  # noqa: BLE001 -- it goes to those who wait
            self._forget(key)
            future.set_exception(error)
        else:
            self._forget(key)
            future.set_result(found)

    def _forget(self, key: _K) -> None:
        """Before anyone has the answer, so that whoever asks next gets one of their own."""
        with self._changed:
            del self._running[key]
            self._changed.notify_all()


_all: Final[weakref.WeakSet[BoundedCalls[Any, Any]]] = weakref.WeakSet()


def _start_all_anew() -> None:
    for calls in list(_all):
        calls.start_anew()


os.register_at_fork(after_in_child=_start_all_anew)
