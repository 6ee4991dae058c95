"""Calls of what has no timeout of its own, so that whoever waits can stop waiting."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Hashable
from concurrent.futures import Future, wait
from contextvars import Context, copy_context
from queue import Empty, SimpleQueue
from typing import Any, Final, Generic, NamedTuple, TypeVar

from callbacks.delivery.deadline import Deadline

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")

MAX_CALLS: Final = 128  # at the same time, a thread each
ABANDON_S: Final = 60.0  # from then on nobody new waits for a call that hangs
IDLE_S: Final = 60.0  # so long a thread waits for its next call


class TooManyHang(Exception):
    """As many calls as there may be have not ended, or the system gives no thread for one."""


class _Job(NamedTuple):
    """One call: its key, who waits for it, and the context of whoever asked first."""

    key: Any
    future: Future[Any]
    context: Context


class DaemonPool(Generic[_K, _V]):
    """Runs a function in daemon threads, for any number of callers.

    A call that hangs keeps its thread until it ends. There are never more than `most` of them,
    and one a minute for each key: a broken server of one customer takes few threads, however
    many callbacks wait for it. The threads stay for a while, so what a function keeps in them
    (a connection to a database) is used again.
    """

    def __init__(self, function: Callable[[_K], _V], *, name: str, most: int = MAX_CALLS) -> None:
        self._function = function
        self._name = name
        self._most = most
        self.reset_after_fork()
        _all.add(self)

    def reset_after_fork(self) -> None:
        """Forget what runs; in a forked child those threads are not there."""
        self._running: dict[_K, tuple[Future[_V], float]] = {}  # and when it began
        self._abandoned = 0
        self._idle: list[SimpleQueue[_Job]] = []
        self._changed = threading.Condition()

    def result(self, key: _K, deadline: Deadline, *, proven: bool = False) -> _V:
        """Give what the function returns for `key`, of a call that may be under way already.

        Half of all calls are kept for `proven` keys, whose calls have ended in time before: so
        however many others hang, those go on. Raises TimeoutError at the deadline, `TooManyHang`,
        and whatever the function raises.
        """
        future = self._join(key, deadline, self._most if proven else self._most // 2)
        if not wait([future], deadline.left()).done:
            raise TimeoutError(f"the {self._name} did not end in time")
        return future.result()

    def _join(self, key: _K, deadline: Deadline, most: int) -> Future[_V]:
        with self._changed:
            if not self._changed.wait_for(lambda: self._has_room_for(key, most), deadline.left()):
                raise TooManyHang(f"too many calls hang: {self._name}")
            return self._under_way(key) or self._start(key)

    def _has_room_for(self, key: _K, most: int) -> bool:
        under_way = self._under_way(key)
        return under_way is not None or len(self._running) + self._abandoned < most

    def _under_way(self, key: _K) -> Future[_V] | None:
        future, began = self._running.get(key, (None, 0.0))
        return future if time.monotonic() - began < ABANDON_S else None

    def _start(self, key: _K) -> Future[_V]:
        job = _Job(key, Future(), copy_context())
        jobs = self._idle.pop() if self._idle else self._new_thread()
        self._abandoned += key in self._running
        self._running[key] = job.future, time.monotonic()
        jobs.put(job)
        return job.future

    def _new_thread(self) -> SimpleQueue[_Job]:
        jobs: SimpleQueue[_Job] = SimpleQueue()
        try:
            threading.Thread(target=self._work, args=(jobs,), name=self._name, daemon=True).start()
        except RuntimeError as error:  # the system has no more
            raise TooManyHang(f"no thread for the {self._name}: {error}") from error
        return jobs

    def _work(self, jobs: SimpleQueue[_Job]) -> None:
        while True:
            try:
                job = jobs.get(timeout=IDLE_S)
            except Empty:
                with self._changed:
                    if jobs in self._idle:
                        self._idle.remove(jobs)
                        return
                job = jobs.get()  # it came at the last moment
            self._run(job, jobs)

    def _run(self, job: _Job, jobs: SimpleQueue[_Job]) -> None:
        try:
            found = job.context.run(self._function, job.key)
        except BaseException as error:  # noqa: BLE001 -- it goes to those who wait
            self._end(job, jobs)
            job.future.set_exception(error)
        else:
            self._end(job, jobs)
            job.future.set_result(found)

    def _end(self, job: _Job, jobs: SimpleQueue[_Job]) -> None:
        """Before anyone has the answer, so that whoever asks next gets one of their own."""
        with self._changed:
            if job.key in self._running and self._running[job.key][0] is job.future:
                del self._running[job.key]
            else:
                self._abandoned -= 1
            self._idle.append(jobs)
            self._changed.notify_all()


_all: Final[weakref.WeakSet[DaemonPool[Any, Any]]] = weakref.WeakSet()


def _reset_all_after_fork() -> None:
    for calls in list(_all):
        calls.reset_after_fork()


os.register_at_fork(after_in_child=_reset_all_after_fork)
