"""Calls functions that have no timeout, so that callers can stop waiting for them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future, wait
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, Final, Generic, TypeVar

from callbacks.delivery.deadline import Deadline
from callbacks.forks import renew_after_fork

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")

MAX_CALLS: Final = 128  # that somebody waits for at the same time, a thread each
MAX_HANGING: Final = 256  # of either half: calls that have not ended by their deadline
ABANDON_S: Final = 60.0  # after this a call that hangs is repeated
IDLE_S: Final = 60.0  # so long a thread waits for its next call


class TooManyHang(Exception):
    """Too many calls have not ended, or the system has no thread for another one."""


@dataclass(eq=False, slots=True)
class _Share:
    """The places for proven keys, or those for all others."""

    places: int
    taken: int = 0
    hanging: int = 0

    def has_room(self, *, again: bool) -> bool:
        """Whether a call may begin; `again`: its key's last call still hangs.

        Such calls may take only half of the room for hanging ones.
        """
        room = MAX_HANGING // 2 if again else MAX_HANGING
        return self.taken < self.places and self.hanging < room


@dataclass(eq=False, slots=True)
class _Call:
    """One call, in the context of its first caller."""

    key: Any
    share: _Share
    future: Future[Any] = field(default_factory=Future)
    context: Context = field(default_factory=copy_context)
    began_at: float = field(default_factory=time.monotonic)
    hangs: bool = False  # its callers have stopped waiting
    ended: bool = False


class DaemonPool(Generic[_K, _V]):
    """Runs a function in daemon threads, for any number of callers.

    A hanging call cannot be ended, so it keeps its thread. But once a caller's deadline passes, it
    gives up its place, and its key is not called again for a minute. So as long as fewer than
    `MAX_HANGING` calls hang, nobody waits longer than the calls before it have until their
    deadlines. Idle threads are kept for a while, so that a function can keep e.g. a database
    connection in its thread.
    """

    def __init__(self, function: Callable[[_K], _V], *, name: str, most: int = MAX_CALLS) -> None:
        self._function = function
        self._name = name
        self._most = most
        renew_after_fork(self)

    def reset_after_fork(self) -> None:
        """Forget running calls: in a forked child, their threads do not exist."""
        self._calls: dict[_K, _Call] = {}  # the last call of each key, if it has not ended
        self._shares = {proven: _Share(self._most // 2) for proven in (True, False)}
        self._idle: list[SimpleQueue[_Call]] = []
        self._changed = threading.Condition()

    def result(self, key: _K, deadline: Deadline, *, proven: bool = False) -> _V:
        """Return the function's result for `key`, joining a call that is already running.

        Half of the places are reserved for `proven` keys, whose calls have ended in time before,
        and half for the others, so that neither waits for the other. Raises TimeoutError at the
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
        """The number of running calls, hanging ones included."""
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
        """Free the place of a call that has not ended, because its caller has stopped waiting."""
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
                call = jobs.get()  # one was assigned just now
            self._run(call, jobs)

    def _run(self, call: _Call, jobs: SimpleQueue[_Call]) -> None:
        try:
            found = call.context.run(self._function, call.key)
        except BaseException as error:  # noqa: BLE001 -- raised in the callers' threads
            self._end(call, jobs)
            call.future.set_exception(error)
        else:
            self._end(call, jobs)
            call.future.set_result(found)

    def _end(self, call: _Call, jobs: SimpleQueue[_Call]) -> None:
        """Forget the call before its result is set, so that a later caller starts a new one."""
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
