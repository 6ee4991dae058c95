"""Calls blocking functions in daemon threads, for coroutines of any event loop.

Not in those of `asyncio.to_thread`: they are few and also look names up for the application, which
a Redis that hangs would bring to a halt, and the interpreter waits for them when it exits.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from copy import copy
from typing import Any, Final, TypeVar

import redis

from callbacks.forks import renew_after_fork

_A = TypeVar("_A")
_R = TypeVar("_R")

#: The most arguments in one call: a few milliseconds of Redis' time.
MOST: Final = 50


class _Call:
    """One call, and the future of the coroutine that waits for it.

    `joins`: it may be one with the calls of the same function that wait behind it.
    """

    __slots__ = ("argument", "function", "future", "joins", "loop", "since")

    def __init__(self, function: Callable[[Any], Any], argument: Any, *, joins: bool) -> None:
        self.function, self.argument, self.joins = function, argument, joins
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self.loop.create_future()
        self.since = time.monotonic()


class DaemonThreads:
    """At most `most` threads, each started when a call finds no idle one.

    A call that is cancelled before a thread takes it is never made; one that has begun is made to
    its end. After redis' `TimeoutError` those that were waiting when the call began fail with it,
    so that no call waits for many timeouts.
    """

    def __init__(self, name: str, *, most: int = 1) -> None:
        self._name, self._most = name, most
        renew_after_fork(self)

    def reset_after_fork(self) -> None:
        """Forget threads and calls: in a forked child, they do not exist."""
        self._changed = threading.Condition()
        self._waiting: deque[_Call] = deque()
        self._started = self._idle = 0

    async def call(self, function: Callable[[_A], _R], argument: _A) -> _R:
        """Return `function(argument)`, or raise what it raises."""
        call = _Call(function, argument, joins=False)
        self._add(call)
        result: _R = await call.future
        return result

    async def join(self, function: Callable[[list[_A]], Sequence[_R | Exception]], one: _A) -> _R:
        """Call `function` with this and all other arguments that wait for it; return its result.

        For each argument it returns the result or an error, which is raised here.
        """
        call = _Call(function, one, joins=True)
        self._add(call)
        result: _R = await call.future
        return result

    def _add(self, call: _Call) -> None:
        with self._changed:
            if len(self._waiting) >= self._idle and self._started < self._most:
                self._start()
            self._waiting.append(call)
            self._changed.notify()

    def _start(self) -> None:
        """Start one more thread; raises RuntimeError if the system has none and there is none."""
        try:
            threading.Thread(target=self._work, name=self._name, daemon=True).start()
        except RuntimeError:
            if not self._started:
                raise
        else:
            self._started += 1

    def _work(self) -> None:
        while True:
            calls = self._take()
            if calls:
                began = time.monotonic()
                results, has_timed_out = _call(calls)
                _hand_over(calls, results)
                if has_timed_out:
                    older = self._take_older(began)
                    _hand_over(older, [copy(results[0]) for _ in older])

    def _take(self) -> list[_Call]:
        """Wait for the next call, and take those that may join it."""
        with self._changed:
            self._idle += 1
            self._changed.wait_for(lambda: self._waiting)
            self._idle -= 1
            calls = [self._waiting.popleft()]
            while self._waiting and len(calls) < MOST and _may_join(calls[0], self._waiting[0]):
                calls.append(self._waiting.popleft())
        return [call for call in calls if not call.future.cancelled()]

    def _take_older(self, began: float) -> list[_Call]:
        """Take the calls that were waiting at `began`, a time of the monotonic clock."""
        older = []
        with self._changed:
            while self._waiting and self._waiting[0].since <= began:
                older.append(self._waiting.popleft())
        return older


def _may_join(first: _Call, other: _Call) -> bool:
    return first.joins and other.joins and first.function is other.function


def _call(calls: list[_Call]) -> tuple[Sequence[Any], bool]:
    """Return the result of each call, and whether Redis did not answer in time."""
    first = calls[0]
    try:
        if first.joins:
            return first.function([call.argument for call in calls]), False
        return [first.function(first.argument)], False
    except redis.RedisError as error:  # each coroutine gets one to add its id to
        return [copy(error) for _ in calls], isinstance(error, redis.TimeoutError)
    except BaseException as error:  # noqa: BLE001 - raised by those who wait
        return [error for _ in calls], False


def _hand_over(calls: Sequence[_Call], results: Sequence[Any]) -> None:
    """Wake the coroutines, those of one event loop together."""
    ended = defaultdict(list)
    for call, result in zip(calls, results, strict=True):
        ended[call.loop].append((call.future, result))
    for loop, pairs in ended.items():
        try:
            loop.call_soon_threadsafe(_settle, pairs)
        except RuntimeError:  # it was closed meanwhile: nobody waits any more
            continue


def _settle(pairs: Sequence[tuple[asyncio.Future[Any], Any]]) -> None:
    for future, result in pairs:
        if future.done():  # cancelled
            continue
        if isinstance(result, BaseException):
            future.set_exception(result)
        else:
            future.set_result(result)
