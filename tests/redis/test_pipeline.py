"""Commands of many threads over one connection: each gets its own reply, whatever happens."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest
import redis

from callbacks.batcher import pipeline as combining
from callbacks.batcher.pipeline import MOST, AutoPipeline
from tests.support.server import Server

MANY = 64


@pytest.fixture
def pooled(server: Server, client: redis.Redis) -> Iterator[redis.Redis]:
    del client  # it flushes the server
    pool = redis.BlockingConnectionPool.from_url(
        server.url, max_connections=2, timeout=2, socket_timeout=1, protocol=2
    )
    yield redis.Redis(connection_pool=pool)
    pool.disconnect()


@pytest.fixture
def pipeline(pooled: redis.Redis) -> AutoPipeline:
    return AutoPipeline(pooled, patience_s=6)


def test_each_of_many_threads_gets_its_own_reply(
    pipeline: AutoPipeline, pooled: redis.Redis
) -> None:
    def work(n: int) -> bool:
        return all(pipeline.call("ECHO", f"{n}-{k}") == f"{n}-{k}".encode() for k in range(50))

    with ThreadPoolExecutor(MANY) as threads:
        assert all(threads.map(work, range(MANY)))
    assert len([row for row in pooled.client_list() if row["cmd"] == "echo"]) <= 1


def test_what_gathers_while_one_is_sent_goes_together(
    pipeline: AutoPipeline, pooled: redis.Redis, server: Server
) -> None:
    before = reads(pooled)
    server.signal(signal.SIGSTOP)
    with ThreadPoolExecutor(MOST) as threads:
        calls = [threads.submit(pipeline.call, "INCR", "n") for _ in range(MOST)]
        until_waiting(pipeline, MOST - 1)
        server.signal(signal.SIGCONT)
        assert sorted(call.result() for call in calls) == list(range(1, MOST + 1))
    assert reads(pooled) - before < MOST / 2


def test_an_error_reply_is_its_callers_alone(pipeline: AutoPipeline, server: Server) -> None:
    def call(n: int) -> Any:
        try:
            return pipeline.call(*(("NONSENSE",) if n % 2 else ("ECHO", "x")))
        except redis.ResponseError as error:
            return type(error)

    with ThreadPoolExecutor(MANY) as threads:
        replies = list(threads.map(call, range(MANY)))
    assert replies == [redis.ResponseError if n % 2 else b"x" for n in range(MANY)]


def test_a_broken_connection_fails_what_went_together_and_nothing_after(
    pipeline: AutoPipeline, server: Server
) -> None:
    server.signal(signal.SIGSTOP)
    with ThreadPoolExecutor(MANY) as threads:
        calls = [threads.submit(pipeline.call, "ECHO", n) for n in range(MANY)]
        errors = [call.exception(timeout=20) for call in calls]
    server.signal(signal.SIGCONT)
    assert {type(error) for error in errors} == {redis.TimeoutError}
    assert pipeline.call("ECHO", "again") == b"again"


def test_nobody_waits_for_two_timeouts_of_a_redis_that_stands_still(
    pipeline: AutoPipeline, server: Server
) -> None:
    server.signal(signal.SIGSTOP)
    began = time.monotonic()
    with ThreadPoolExecutor(3 * MOST) as threads:
        calls = [threads.submit(pipeline.call, "ECHO", n) for n in range(3 * MOST)]
        errors = {type(call.exception(timeout=20)) for call in calls}
    took = time.monotonic() - began
    server.signal(signal.SIGCONT)
    assert errors == {redis.TimeoutError}
    assert took < 3.5  # one timeout is a second; one after the other it would be four of them


def test_an_interrupted_sender_leaves_nobody_waiting(
    pipeline: AutoPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupt(BaseException):
        """As Dramatiq raises anywhere."""

    started, go = threading.Event(), threading.Event()

    def interrupted(commands: list[tuple[Any, ...]]) -> list[Any]:
        monkeypatch.undo()
        started.set()
        go.wait(5)
        raise Interrupt

    monkeypatch.setattr(pipeline, "_exchange", interrupted)
    with ThreadPoolExecutor(3) as threads:
        first = threads.submit(pipeline.call, "ECHO", "1")
        assert started.wait(5)
        others = [threads.submit(pipeline.call, "ECHO", "2") for _ in range(2)]
        until_waiting(pipeline, 2)
        go.set()
        assert isinstance(first.exception(), Interrupt)
        assert [other.result(timeout=5) for other in others] == [b"2", b"2"]


def test_who_waits_too_long_gives_up_and_the_next_one_sends(
    pooled: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = AutoPipeline(pooled, patience_s=0.2)
    pipeline._is_led = True  # by a dead thread
    with pytest.raises(redis.TimeoutError):
        pipeline.call("ECHO", "1")
    assert pipeline.call("ECHO", "2") == b"2"


class Lapsing:
    """A lock whose timed wait ends just when it is released."""

    def __init__(self, release: Callable[[], None]) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self._release = release
        self.release = self._lock.release

    def acquire(self, *, blocking: bool = True, timeout: float = -1) -> bool:
        if timeout >= 0:
            self._release()
            return False
        return self._lock.acquire(blocking=blocking)


@pytest.mark.parametrize("gets", ["its turn", "its reply", "its reply, unwoken"])
def test_who_gets_something_at_the_last_moment_takes_it(
    pipeline: AutoPipeline, monkeypatch: pytest.MonkeyPatch, gets: str
) -> None:
    leader = combining._Call(b"")
    leader.leads = pipeline._is_led = True

    def release() -> None:
        (waiting,) = pipeline._waiting
        if gets != "its turn":
            pipeline._waiting.clear()  # it was accepted
            waiting.reply = b"x"
        if gets == "its reply":
            waiting.done.release()
        elif gets == "its turn":
            pipeline._pass_on(leader)

    class Late(combining._Call):
        """A call that waits slightly too long."""

        def __init__(self, command: bytes) -> None:
            super().__init__(command)
            self.done = Lapsing(release)  # type: ignore[assignment]

    monkeypatch.setattr(combining, "_Call", Late)
    assert pipeline.call("ECHO", "x") == b"x"
    if gets != "its turn":  # the sending thread goes on, and no other one sends
        assert pipeline._is_led
        pipeline._pass_on(leader)
    monkeypatch.undo()
    assert pipeline.call("ECHO", "y") == b"y"


def test_who_has_left_is_passed_over_when_one_thread_wakes_the_next(
    pipeline: AutoPipeline,
) -> None:
    calls = [combining._Call(b"") for _ in range(4)]
    for call, following in pairwise(calls):
        call.next = following
    pipeline._leave(calls[1])  # interrupted before its turn: it wakes the next one in its place
    assert [call.done.locked() for call in calls] == [True, True, False, True]
    pipeline._leave(calls[3])
    for call in (calls[0], calls[2]):
        pipeline._wake_next(call)
        pipeline._wake_next(call)  # a thread may be interrupted just after, and leave
    assert calls[1].done.locked()
    assert calls[3].done.locked()

    calls = [combining._Call(b"") for _ in range(3)]
    pipeline._leave(calls[1])  # this time before the replies are there
    for call, following in pairwise(calls):
        call.next = following
    pipeline._wake_next(calls[0])
    assert [call.done.locked() for call in calls] == [True, True, False]
    pipeline._wake_next(calls[1])  # one that has just left finds it passed over already
    assert [call.done.locked() for call in calls] == [True, True, False]


def reads(client: redis.Redis) -> int:
    return int(client.info("stats")["total_reads_processed"])


def test_all_that_use_one_pool_share_one(pooled: redis.Redis) -> None:
    shared = AutoPipeline.of(pooled)
    assert AutoPipeline.of(redis.Redis(connection_pool=pooled.connection_pool)) is shared
    assert AutoPipeline.of(redis.Redis()) is not shared


def test_what_cannot_be_sent_fails_its_own_caller(pipeline: AutoPipeline) -> None:
    for wrong in (None, "\ud800"):
        with pytest.raises((TypeError, UnicodeEncodeError)):
            pipeline.call("ECHO", wrong)
    assert pipeline.call("ECHO", "fine") == b"fine"


def test_a_forked_child_waits_for_nobody(pipeline: AutoPipeline, server: Server) -> None:
    pipeline._is_led = True  # by a thread that the child will not have
    child = os.fork()
    if not child:
        pipeline._pool = server.client().connection_pool
        os._exit(0 if pipeline.call("ECHO", "x") == b"x" else 1)
    assert os.waitpid(child, 0)[1] == 0


def until_waiting(pipeline: AutoPipeline, count: int) -> None:
    for _ in range(5_000):
        if len(pipeline._waiting) >= count:
            return
        threading.Event().wait(0.001)
    raise AssertionError(f"{len(pipeline._waiting)} wait")
