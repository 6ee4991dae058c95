"""Sends each command to the primary that has its key: one of a cluster, or the only one.

The commands of many threads for one primary go there in one piece, whichever shards they are for.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from copy import copy
from typing import Any, Final, Protocol

import hiredis
import redis
from redis import Redis

from callbacks.batcher.client import NodePool, ShardPool
from callbacks.batcher.durability import Wait
from callbacks.batcher.errors import Elsewhere
from callbacks.batcher.pipeline import AutoPipeline, read_replies
from callbacks.batcher.topology import until_found

#: Where the first key is: after the script and the number of keys.
_SCRIPTS: Final = frozenset({"EVAL", "EVALSHA"})
#: A stream is sent to a node in pieces of this size.
_PIECE_BYTES: Final = 8_192


class Sender(Protocol):
    """Sends commands."""

    def call(self, *command: Any) -> Any:
        """Send a command and return its reply; raises redis-py's errors."""

    def stream(self, commands: Iterable[Sequence[Any]]) -> list[Any]:
        """Send many commands while they are built; return all replies, error replies too."""


def sender(client: Redis, wait: Wait | None = None) -> Sender:
    """Return what sends a client's commands together with those of other threads.

    `wait`: what has to come after each piece before its replies count.
    """
    pool: object = client.connection_pool
    return Router.of(pool, wait) if isinstance(pool, ShardPool) else AutoPipeline.of(client, wait)


_all: Final[weakref.WeakSet[Router]] = weakref.WeakSet()


class Router:
    """Sends each command to the primary that has its key now, and again if that has moved."""

    @classmethod
    def of(cls, pool: ShardPool, wait: Wait | None) -> Router:
        """Return the one that serves this pool already, with this wait, or a new one."""
        known = (one for one in tuple(_all) if one.pool is pool and one.wait == wait)
        return next(known, None) or cls(pool, wait)

    def __init__(self, pool: ShardPool, wait: Wait | None) -> None:
        """`pool`: of the shard to which commands without a key go."""
        self.pool = pool
        self.wait = wait
        self._nodes = pool.nodes
        self._pipelines: dict[NodePool, AutoPipeline] = {}
        _all.add(self)

    def call(self, *command: Any) -> Any:
        """Send a command and return its reply; raises redis-py's errors."""
        key = self._key(command)

        def once() -> Any:
            return self._pipeline(self._nodes.home(key)).call(*command)

        return until_found(once, self.pool.patience_s)

    def stream(self, commands: Iterable[Sequence[Any]]) -> list[Any]:
        """Send many commands while they are built; return all replies, error replies too.

        If a primary cannot be reached, the replies to its commands are that error; the other
        primaries' are not affected.
        """
        sent: list[Sequence[Any]] = []

        def noted() -> Iterator[Sequence[Any]]:
            for command in commands:
                sent.append(command)
                yield command

        replies = self._stream(noted())

        def again() -> None:
            moved = [n for n, reply in enumerate(replies) if isinstance(reply, Elsewhere)]
            for n, reply in zip(moved, self._stream(sent[n] for n in moved), strict=True):
                replies[n] = reply
            for reply in replies:
                if isinstance(reply, Elsewhere):
                    raise reply

        if any(isinstance(reply, Elsewhere) for reply in replies):
            _ignore_elsewhere(lambda: until_found(again, self.pool.patience_s))
        return replies

    def _stream(self, commands: Iterable[Sequence[Any]]) -> list[Any]:
        # One at a time: two that hold each a connection that the other waits for would time out.
        with self._nodes.streaming, ExitStack() as stack:
            branches: dict[NodePool | str, _Branch] = {}
            order: list[_Branch] = []
            for command in commands:
                branch = self._branch(self._key(command), branches, stack)
                branch.add(command)
                order.append(branch)
            for branch in branches.values():
                branch.end(self.wait)
            for branch in branches.values():
                branch.read(self.wait)
            return [next(branch.replies) for branch in order]

    def _branch(
        self, key: Any, branches: dict[NodePool | str, _Branch], stack: ExitStack
    ) -> _Branch:
        """Return the branch to the primary that has a key, or one that has failed."""
        try:
            home = self._nodes.home(key)
        except (redis.RedisError, OSError) as error:
            return branches.setdefault(str(key), _Branch(None, _as_redis_error(error)))
        found = branches.get(home)
        if found is None:
            found = branches[home] = _opened(self._pipeline(home), stack)
        return found

    def _pipeline(self, home: NodePool) -> AutoPipeline:
        found = self._pipelines.get(home)
        if found is None:  # all shards share that of their primary
            found = self._pipelines[home] = AutoPipeline.of(Redis(connection_pool=home), self.wait)
        return found

    def _key(self, command: Sequence[Any]) -> Any:
        at = 3 if command[0] in _SCRIPTS else 1
        return command[at] if len(command) > at else self.pool.key


class _Branch:
    """The part of a stream that goes to one primary; `connection` None: it cannot be reached."""

    def __init__(self, connection: Any, error: redis.RedisError | None = None) -> None:
        self._connection, self._error = connection, error
        self._unsent: list[bytes] = []
        self._size = self._count = 0
        self.replies: Iterator[Any] = iter(())

    def add(self, command: Sequence[Any]) -> None:
        """Send a command, together with some others."""
        packed = hiredis.pack_command(tuple(command))
        self._count += 1
        self._unsent.append(packed)
        self._size += len(packed)
        if self._size >= _PIECE_BYTES:
            self._send()

    def end(self, wait: Wait | None) -> None:
        """Send what is left, and what has to come after it."""
        self._unsent += [wait.packed] if wait else []
        self._send()

    def read(self, wait: Wait | None) -> None:
        """Read all replies."""
        replies = self._guarded(lambda: read_replies(self._connection, self._count, wait))
        self.replies = iter(replies or [copy(self._error) for _ in range(self._count)])

    def _send(self) -> None:
        data, self._unsent, self._size = b"".join(self._unsent), [], 0
        if data:
            self._guarded(lambda: self._connection.send_packed_command([data]))

    def _guarded(self, step: Callable[[], Any]) -> Any:
        """Do one step, unless one before has failed: then its error is the answer to all."""
        if self._error is None:
            try:
                return step()
            except redis.RedisError as error:
                self._connection.disconnect()  # replies may still come
                self._error = error
        return None


def _opened(pipeline: AutoPipeline, stack: ExitStack) -> _Branch:
    try:
        return _Branch(stack.enter_context(pipeline.connection()))
    except redis.RedisError as error:
        return _Branch(None, error)


def _as_redis_error(error: Exception) -> redis.RedisError:
    return error if isinstance(error, redis.RedisError) else redis.ConnectionError(str(error))


def _ignore_elsewhere(step: Callable[[], Any]) -> None:
    """Do something that may raise `Elsewhere`, which stands in its command's place already."""
    try:
        step()
    except Elsewhere:
        return
