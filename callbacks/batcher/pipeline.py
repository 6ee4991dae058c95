"""Sends the commands of many threads together over one connection.

If sixty threads shared four connections, each would keep its connection until the interpreter lets
it read its reply, and the others would wait. Here a thread that finds no other one sending sends
the commands of all waiting threads in one piece, reads all replies, and hands them out. More
threads make larger pieces. Several senders at once, or several pieces in a row by one sender, were
tried and brought nothing.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from itertools import pairwise
from typing import Any, Final

import hiredis
import redis
from redis import Redis

from callbacks.batcher.durability import Wait
from callbacks.forks import renew_after_fork

#: The most commands in one piece (some milliseconds of Redis' time), and the size from which no
#: more are added.
MOST: Final = 50
MOST_BYTES: Final = 262_144
#: The same where each piece is followed by a wait, which it should be worth.
MOST_THAT_WAIT: Final = 1_000
#: A stream is sent in pieces of this size: smaller ones cost a system call each, after which the
#: thread may have to wait for the interpreter.
STREAM_BYTES: Final = 8_192
_NONE_YET: Final = object()


class _Call:
    """One command. `done` is released once: with the reply, or when its thread shall send.

    `next`: the call whose thread this one's wakes, once it has its own reply.
    """

    __slots__ = ("command", "done", "has_left", "leads", "next", "reply", "since")

    def __init__(self, command: bytes) -> None:
        self.command = command  # already packed
        self.done = threading.Lock()
        self.done.acquire()
        self.leads = self.has_left = False
        self.next: _Call | None = None
        self.since = time.monotonic()
        self.reply: Any = _NONE_YET


_all: Final[weakref.WeakSet[AutoPipeline]] = weakref.WeakSet()


class AutoPipeline:
    """Sends commands over one client's pool.

    If the connection breaks, all commands of the piece fail, and nobody knows which of them Redis
    has executed: each must be harmless to repeat, or to execute though its caller got an error.
    If Redis does not answer in time, commands that were waiting when the piece was sent fail too,
    so that no thread waits for two full timeouts. `patience_s` is longer than that, in case the
    sending thread vanishes.

    With a `wait` each piece is followed by it, and nobody gets a reply before it is over: so all
    calls of a piece wait once.
    """

    @classmethod
    def of(cls, client: Redis, wait: Wait | None = None) -> AutoPipeline:
        """Return the one that serves this client's pool already, with this wait, or a new one."""
        pool = client.connection_pool
        known = (one for one in tuple(_all) if one.pool is pool and one.wait == wait)
        return next(known, None) or cls(client, wait=wait)

    def __init__(
        self, client: Redis, *, patience_s: float | None = None, wait: Wait | None = None
    ) -> None:
        self.pool = client.connection_pool
        self.wait = wait
        self._most = MOST_THAT_WAIT if wait else MOST
        timeout_s = self.pool.connection_kwargs.get("socket_timeout") or 5.0
        self._patience_s = 3 * timeout_s if patience_s is None else patience_s
        renew_after_fork(self)
        _all.add(self)

    def reset_after_fork(self) -> None:
        """Forget all calls: in a forked child, the threads that wait or send do not exist."""
        self._lock = threading.Lock()
        self._waiting: list[_Call] = []  # not yet taken by a sender
        self._is_led = False

    def call(self, *command: Any) -> Any:
        """Send a command and return its reply; raises redis-py's errors.

        Its parts are str, bytes or numbers; raises `TypeError` for anything else.
        """
        call = _Call(hiredis.pack_command(command))  # a wrong one fails here and fails alone
        try:
            with self._lock:
                call.leads = not self._is_led
                if call.leads:
                    self._is_led = True
                else:
                    self._waiting.append(call)
            if not call.leads:
                self._await(call)
            if call.leads:
                self._lead(call)
            self._wake_next(call)
        except BaseException:  # the thread was interrupted, at any point
            self._leave(call)
            raise
        if isinstance(call.reply, Exception):
            raise call.reply
        return call.reply

    def stream(self, commands: Iterable[Sequence[Any]]) -> list[Any]:
        """Send many commands of one caller while they are built, and return all replies.

        So Redis executes some while the next are built. An error reply is returned in its place;
        raises redis-py's other errors, and whatever `commands` raises.
        """
        with self.connection() as connection:
            sent = size = 0
            unsent: list[bytes] = []
            for command in commands:
                unsent.append(hiredis.pack_command(tuple(command)))
                size += len(unsent[-1])
                sent += 1
                if size >= STREAM_BYTES:
                    connection.send_packed_command([b"".join(unsent)])
                    unsent, size = [], 0
            if unsent:
                connection.send_packed_command([b"".join(unsent)])
            if self.wait:
                connection.send_packed_command([self.wait.packed])
            return read_replies(connection, sent, self.wait)

    def _await(self, call: _Call) -> None:
        """Wait for the reply, or for the turn to send."""
        if call.done.acquire(timeout=self._patience_s):
            return
        with self._lock:
            # The turn to send may have come just now. Then `done` is free and has to be taken,
            # because the sender will release it again. Or the reply has, and whoever is to wake
            # this thread is late.
            if call.done.acquire(blocking=False) or call.reply is not _NONE_YET:
                return
            self._is_led = False  # the sending thread is gone, interrupted halfway
        raise redis.TimeoutError(f"no reply within {self._patience_s:g} s")

    def _leave(self, call: _Call) -> None:
        """Give up waiting; if it was this thread's turn to send, pass it on."""
        with self._lock:
            if call in self._waiting:
                self._waiting.remove(call)
            call.has_left = True
        self._pass_on(call)
        self._wake_next(call)

    def _lead(self, own: _Call) -> None:
        """Send this command and those waiting, fetch the replies, and let the next one send."""
        calls, began = self._gather(own), time.monotonic()
        replies: list[Any] = []
        try:
            replies = self._exchange([call.command for call in calls])
        except redis.RedisError as error:
            if isinstance(error, redis.TimeoutError):
                calls += self._gather_older(began)
            replies = [copy(error) for _ in calls]  # each is raised in another thread
        finally:  # also if this thread is interrupted: the others must not wait for it
            while len(replies) < len(calls):
                replies.append(redis.ConnectionError("the thread that was sending was interrupted"))
            for call, following in pairwise(calls):
                call.next = following
            for call, reply in zip(calls, replies, strict=True):
                call.reply = reply
            self._pass_on(own)

    def _wake_next(self, call: _Call) -> None:
        """Let the next thread of a piece take its reply, passing over those that have left.

        If all were woken at once, they would wait for the interpreter together, and be woken in
        vain whenever a thread lets go of it for a moment.
        """
        with self._lock:
            following, call.next = call.next, None
            while following and following.has_left:  # which may be on its way to do the same
                passed = following
                following, passed.next = passed.next, None
        if following:
            following.done.release()

    def _gather(self, own: _Call) -> list[_Call]:
        """Take the waiting calls, as many as fit into one piece."""
        calls, size = [own], len(own.command)
        with self._lock:
            for call in self._waiting[: self._most - 1]:
                if size >= MOST_BYTES:
                    break
                calls.append(call)
                size += len(call.command)
            del self._waiting[: len(calls) - 1]
        return calls

    def _gather_older(self, began: float) -> list[_Call]:
        """Take the calls that were waiting at `began`, a time of the monotonic clock."""
        with self._lock:
            older = [call for call in self._waiting if call.since <= began]
            self._waiting = [call for call in self._waiting if call.since > began]
        return older

    def _pass_on(self, own: _Call) -> None:
        """Let the next one send, if it was this one's turn."""
        with self._lock:
            if not own.leads:
                return
            own.leads = False
            self._is_led = bool(self._waiting)
            if self._is_led:
                heir = self._waiting.pop(0)
                heir.leads = True
                heir.done.release()

    def _exchange(self, commands: list[bytes]) -> list[Any]:
        with self.connection() as connection:
            after = [self.wait.packed] if self.wait else []
            connection.send_packed_command([b"".join(commands + after)])
            return read_replies(connection, len(commands), self.wait)

    @contextmanager
    def connection(self) -> Iterator[Any]:
        """Lend a connection from the pool; closes it if not all replies were read."""
        connection: Any = self.pool.get_connection()
        try:
            yield connection
        except BaseException:
            connection.disconnect()  # replies may still come
            raise
        finally:
            self.pool.release(connection)


def read_replies(connection: Any, count: int, wait: Wait | None) -> list[Any]:
    """Read the replies to `count` commands and to the wait after them; errors are returned."""
    replies = [_read(connection) for _ in range(count)]
    return wait.applied(replies, [_read(connection) for _ in wait.commands]) if wait else replies


def _read(connection: Any) -> Any:
    try:
        return connection.read_response()
    except redis.ResponseError as error:
        return error
