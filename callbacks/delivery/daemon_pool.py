"""Calls of functions without a timeout, so that the caller can stop waiting."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Hashable
from concurrent.futures import Future, wait
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, Final, Generic, TypeVar

from callbacks.delivery.deadline import Deadline

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")

MAX_CALLS: Final = 128  # that somebody waits for at the same time, a thread each
MAX_HANGING: Final = 256  # of either half: calls that have not ended by their deadline
ABANDON_S: Final = 60.0  # after this a call that hangs is repeated
IDLE_S: Final = 60.0  # so long a thread waits for its next call


class TooManyHang(Exception):
    """As many calls as there may be have not ended, or the system gives no thread for one."""


@dataclass(eq=False, slots=True)
class _Share:
    """The places of those that have proven themselves, or of those that have not."""

    places: int
    taken: int = 0
    hanging: int = 0

    def has_room(self, *, again: bool) -> bool:
        """Whether a call may begin; `again`: of a key whose last call hangs.

        Those get half of the room for hanging calls, so that they never take all of it.
        """
        room = MAX_HANGING // 2 if again else MAX_HANGING
        return self.taken < self.places and self.hanging < room


@dataclass(eq=False, slots=True)
class _Call:
    """One call, in the context of whoever asked first."""

    key: Any
    share: _Share
    future: Future[Any] = field(default_factory=Future)
    context: Context = field(default_factory=copy_context)
    began_at: float = field(default_factory=time.monotonic)
    hangs: bool = False  # no caller waits for it any more
    ended: bool = False


class DaemonPool(Generic[_K, _V]):
    """Runs a function in daemon threads, for any number of callers.

    Nothing can end a call that hangs, so it keeps its thread. But when a caller's deadline passes
    it gives its place up to others, and is made anew for its key after a minute at the earliest.
    So others wait for no longer than the calls before them have until their deadlines, as long as
    fewer than `MAX_HANGING` hang. The threads stay for a while, so what a function keeps in them
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
        self._calls: dict[_K, _Call] = {}  # the last one of each key that has not ended
        self._shares = {proven: _Share(self._most // 2) for proven in (True, False)}
        self._idle: list[SimpleQueue[_Call]] = []
        self._changed = threading.Condition()

    def result(self, key: _K, deadline: Deadline, *, proven: bool = False) -> _V:
        """Give what the function returns for `key`, of a call that may be under way already.

        Half of the places are kept for `proven` keys, whose calls have ended in time before, and
        half for the others: neither waits for what the other does. Raises TimeoutError at the
        deadline, `TooManyHang`, and whatever the function raises.
        """
        call = self._join(key, deadline, self._shares[proven])
        try:
            if not wait([call.future], deadline.left()).done:
                raise TimeoutError(f"the {self._name} did not end in time")
        finally:
            self._give_up(call)
        result: _V = call.future.result()
        return result

    def under_way(self) -> int:
        """How many calls have not ended, those that hang included."""
        with self._changed:
            return sum(share.taken + share.hanging for share in self._shares.values())

    def _join(self, key: _K, deadline: Deadline, share: _Share) -> _Call:
        def may_go_on() -> bool:
            return self._recent(key) is not None or share.has_room(again=key in self._calls)

        with self._changed:
            if not self._changed.wait_for(may_go_on, deadline.left()):
                raise TooManyHang(f"too many calls hang: {self._name}")
            return self._recent(key) or self._start(_Call(key, share))

    def _recent(self, key: _K) -> _Call | None:
        call = self._calls.get(key)
        return call if call and time.monotonic() - call.began_at < ABANDON_S else None

    def _start(self, call: _Call) -> _Call:
        jobs = self._idle.pop() if self._idle else self._new_thread()
        call.share.taken += 1
        self._calls[call.key] = call
        jobs.put(call)
        return call

    def _new_thread(self) -> SimpleQueue[_Call]:
        jobs: SimpleQueue[_Call] = SimpleQueue()
        try:
            threading.Thread(target=self._work, args=(jobs,), name=self._name, daemon=True).start()
        except RuntimeError as error:  # the system has no more
            raise TooManyHang(f"no thread for the {self._name}: {error}") from error
        return jobs

    def _give_up(self, call: _Call) -> None:
        """Take a call's place away if it has not ended: its caller has stopped waiting."""
        if call.future.done():
            return
        with self._changed:
            if not (call.hangs or call.ended):
                call.hangs = True
                call.share.taken -= 1
                call.share.hanging += 1
                self._changed.notify_all()

    def _work(self, jobs: SimpleQueue[_Call]) -> None:
        while True:
            try:
                call = jobs.get(timeout=IDLE_S)
            except Empty:
                with self._changed:
                    if jobs in self._idle:
                        self._idle.remove(jobs)
                        return
                call = jobs.get()  # it came at the last moment
            self._run(call, jobs)

    def _run(self, call: _Call, jobs: SimpleQueue[_Call]) -> None:
        try:
            found = call.context.run(self._function, call.key)
        except BaseException as error:  # noqa: BLE001 -- it goes to those who wait
            self._end(call, jobs)
            call.future.set_exception(error)
        else:
            self._end(call, jobs)
            call.future.set_result(found)

    def _end(self, call: _Call, jobs: SimpleQueue[_Call]) -> None:
        """Before anyone has the answer, so that whoever asks next gets one of their own."""
        with self._changed:
            if self._calls.get(call.key) is call:
                del self._calls[call.key]
            if call.hangs:
                call.share.hanging -= 1
            else:
                call.share.taken -= 1
            call.ended = True
            self._idle.append(jobs)
            self._changed.notify_all()


_all: Final[weakref.WeakSet[DaemonPool[Any, Any]]] = weakref.WeakSet()


def _reset_all_after_fork() -> None:
    for calls in list(_all):
        calls.reset_after_fork()


os.register_at_fork(after_in_child=_reset_all_after_fork)
