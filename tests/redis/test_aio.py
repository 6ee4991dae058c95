"""aenqueue, aenqueue_many, acancel, aget_status: as the others, and the event loop goes on."""

from __future__ import annotations

import asyncio
import inspect
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
import redis

import callbacks
from callbacks import aenqueue, aenqueue_many, aget_status
from tests.redis.support import everything, key
from tests.redis.test_api import BAD
from tests.support.processes import clean_environment, load
from tests.support.server import Server

Environment = Callable[..., None]
URL = "https://customer.example/hooks/ai"
PAIRS = [
    (callbacks.enqueue, callbacks.aenqueue),
    (callbacks.enqueue_many, callbacks.aenqueue_many),
    (callbacks.cancel, callbacks.acancel),
    (callbacks.get_status, callbacks.aget_status),
]


@contextmanager
def stopped(server: Server) -> Iterator[None]:
    """A server process that does nothing until the block ends."""
    server.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        server.signal(signal.SIGCONT)


@asynccontextmanager
async def heartbeat() -> AsyncIterator[list[float]]:
    """How long the loop was held up each time, in seconds."""
    gaps: list[float] = []

    async def beat() -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            gaps.append(time.perf_counter() - before - 0.001)

    task = asyncio.create_task(beat())
    yield gaps
    task.cancel()


async def all_of(*many: Coroutine[Any, Any, Any]) -> list[Any]:
    return await asyncio.gather(*many, return_exceptions=True)


@pytest.mark.parametrize(("plain", "awaited"), PAIRS)
def test_each_takes_and_returns_what_the_plain_function_does(
    plain: Callable[..., Any], awaited: Callable[..., Any]
) -> None:
    assert inspect.signature(awaited) == inspect.signature(plain)
    assert inspect.iscoroutinefunction(awaited)


def test_what_is_enqueued_can_be_followed_and_cancelled(
    environment: Environment, client: redis.Redis
) -> None:
    async def main() -> None:
        receipt = await aenqueue(URL, {"n": 1}, event="image.completed", id="t-1")
        assert receipt == callbacks.Receipt("t-1", True)
        assert not (await aenqueue(URL, {"n": 1}, id="t-1")).accepted
        assert await aget_status("t-1") == callbacks.get_status("t-1")
        assert await aget_status("unknown") is None
        assert await callbacks.acancel("t-1")
        receipts = await aenqueue_many(
            {"callback_url": URL, "data": n, "id": f"m-{n}"} for n in range(1_200)
        )
        assert [(r.id, r.accepted) for r in receipts] == [(f"m-{n}", True) for n in range(1_200)]

    asyncio.run(main())
    assert client.zcard(key("expiry")) == 1_200


@pytest.mark.parametrize(("field", "bad"), BAD)
def test_bad_input_is_refused_at_once_even_while_redis_hangs(
    environment: Environment,
    server: Server,
    client: redis.Redis,
    field: str,
    bad: dict[str, Any],
) -> None:
    async def main() -> None:
        item = {"callback_url": URL, "data": 1} | bad
        with stopped(server):
            with pytest.raises(callbacks.InvalidCallback) as caught:
                await aenqueue(**item)
            assert str(caught.value).startswith(field)
            with pytest.raises(callbacks.InvalidCallback) as caught:
                await aenqueue_many([{"callback_url": URL, "data": 1}, item])
            assert str(caught.value).startswith(f"[1].{field}")

    asyncio.run(main())
    assert everything(client) == {}


def test_the_event_loop_goes_on_while_redis_hangs(
    environment: Environment,
    server: Server,
    client: redis.Redis,
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
) -> None:
    stall_s: float = request.config.getoption("--stall")

    async def main() -> float:
        await aenqueue(URL, 0)  # the first call also loads modules
        many = [{"callback_url": URL, "data": n} for n in range(2_000)]
        async with heartbeat() as gaps:
            with stopped(server):
                waiting = [
                    asyncio.ensure_future(one)
                    for one in (
                        *(aenqueue(URL, n) for n in range(50)),
                        aenqueue_many(many),
                        aget_status("t-1"),
                        callbacks.acancel("t-1"),
                    )
                ]
                await asyncio.sleep(stall_s)
                assert not any(one.done() for one in waiting)
            await asyncio.gather(*waiting)
        return max(gaps)

    held_up_s = asyncio.run(main())
    record_property("ms held up", round(1_000 * held_up_s, 1))
    assert held_up_s < stall_s / 2
    assert client.zcard(key("expiry")) == 2_051


@pytest.mark.parametrize("at_once", [True, False])
def test_others_run_while_many_callbacks_are_checked(
    environment: Environment, monkeypatch: pytest.MonkeyPatch, at_once: bool
) -> None:
    freeze, rounds = callbacks.api.freeze, 0
    seen: list[int] = []

    def slow_freeze(*given: Any, **more: Any) -> Any:
        time.sleep(0.001)
        seen.append(rounds)
        return freeze(*given, **more)

    async def main() -> None:
        nonlocal rounds
        await aenqueue(URL, 0)
        monkeypatch.setattr("callbacks.api.freeze", slow_freeze)
        many = [{"callback_url": URL, "data": n} for n in range(100)]
        tasks = [aenqueue(**item) for item in many] if at_once else [aenqueue_many(many)]
        enqueueing = asyncio.ensure_future(asyncio.gather(*tasks))
        while not enqueueing.done():
            rounds += 1
            await asyncio.sleep(0)

    asyncio.run(main())
    # At least 100 ms of checking, at most 2 ms and one more in a round.
    assert max(seen) > 30


def test_all_that_wait_for_a_redis_that_hangs_fail_within_its_timeout_with_their_ids(
    environment: Environment, server: Server
) -> None:
    environment(CALLBACKS_REDIS_TIMEOUT=0.5)

    async def main() -> list[Any]:
        await aenqueue(URL, 0)
        with stopped(server):
            return await all_of(*(aenqueue(URL, n, id=f"t-{n}") for n in range(200)))

    began = time.monotonic()
    errors = asyncio.run(main())
    assert time.monotonic() - began < 2 + load()  # four calls of 50 each would take 2 s
    assert {type(error) for error in errors} == {redis.TimeoutError}
    assert [error.callback_id for error in errors] == [f"t-{n}" for n in range(200)]


def test_a_task_that_is_cancelled_leaves_nothing_half_done(
    environment: Environment, server: Server, client: redis.Redis
) -> None:
    async def main() -> list[Any]:
        await aenqueue(URL, 0, id="t-0")
        with stopped(server):
            begun = asyncio.create_task(asyncio.wait_for(aenqueue(URL, 1, id="begun"), 0.2))
            await asyncio.sleep(0.1)  # a thread has taken it, and waits for Redis
            errors = await all_of(begun, asyncio.wait_for(aenqueue(URL, 1, id="waiting"), 0.01))
        await aenqueue(URL, 1, id="t-1")
        return errors

    errors = asyncio.run(main())
    assert [type(error) for error in errors] == [TimeoutError, TimeoutError]
    assert [error.__cause__.callback_id for error in errors] == ["begun", "waiting"]
    assert client.zrange(key("expiry"), 0, -1) == [b"t-0", b"begun", b"t-1"]
    assert callbacks.enqueue(URL, 1, id="begun").accepted is False
    assert callbacks.enqueue(URL, 1, id="waiting").accepted


def test_a_cancelled_call_for_many_tells_what_was_stored(
    environment: Environment, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callbacks.api.CHUNK", 2)
    store, calls = callbacks.api.store, []

    def stop_before_the_second(*given: Any, **more: Any) -> Any:
        calls.append(given)
        if len(calls) == 2:
            server.signal(signal.SIGSTOP)
        return store(*given, **more)

    monkeypatch.setattr("callbacks.api.store", stop_before_the_second)

    async def main() -> Any:
        items = [{"callback_url": URL, "data": n, "id": f"t-{n}"} for n in range(5)]
        with pytest.raises(TimeoutError) as caught:
            await asyncio.wait_for(aenqueue_many(items), 0.5)
        return caught.value.__cause__

    try:
        told = asyncio.run(main())
    finally:
        server.signal(signal.SIGCONT)
    assert [receipt.id for receipt in told.receipts] == ["t-0", "t-1"]
    assert told.callback_id == "t-2"


def test_several_event_loops_share_the_connections(
    environment: Environment, client: redis.Redis
) -> None:
    async def main(name: int) -> list[Any]:
        return await all_of(*(aenqueue(URL, n, id=f"{name}-{n}") for n in range(100)))

    with ThreadPoolExecutor(5) as loops:
        receipts = list(loops.map(lambda name: asyncio.run(main(name)), range(5)))
    assert receipts == [
        [callbacks.Receipt(f"{name}-{n}", True) for n in range(100)] for name in range(5)
    ]
    ours = [row for row in client.client_list() if row["name"] == "callbacks"]
    assert len(ours) <= 4


def test_a_loop_that_was_closed_disturbs_no_other(environment: Environment, server: Server) -> None:
    async def begin() -> None:
        asyncio.ensure_future(aenqueue(URL, 1, id="t-1"))  # noqa: RUF006 - it is abandoned
        await asyncio.sleep(0.1)

    callbacks.get_status("t-1")  # makes the runtime
    loop = asyncio.new_event_loop()
    with stopped(server):
        loop.run_until_complete(begin())
        task = asyncio.all_tasks(loop).pop()
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        loop.close()
    assert not asyncio.run(aenqueue(URL, 1, id="t-1")).accepted


def test_what_is_wrong_with_one_callback_is_no_error_of_those_that_go_with_it(
    environment: Environment, server: Server, client: redis.Redis
) -> None:
    client.set(key("lane:https://broken.example:443"), "in the way")
    urls = [f"https://{name}.example/hook" for name in ("a", "broken", "b", "c")]

    async def main() -> list[Any]:
        await aenqueue("https://first.example/", 0)
        with stopped(server):
            first = asyncio.create_task(aenqueue("https://first.example/", 1))
            await asyncio.sleep(0.1)  # so that the others wait for it, and then go together
            others = asyncio.ensure_future(all_of(*(aenqueue(url, 1) for url in urls)))
            await asyncio.sleep(0.1)
        await first
        return await others

    results = asyncio.run(main())
    assert [type(result) for result in results] == [
        callbacks.Receipt,
        callbacks.RedisRefused,
        callbacks.Receipt,
        callbacks.Receipt,
    ]


ANSWER = threading.Event()


def slow_resolver(callback_url: str, environment: str) -> list[str]:
    if "slow" in callback_url:
        assert ANSWER.wait(30)
    return [] if "none" in callback_url else ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]


def test_a_secret_resolver_that_takes_its_time_holds_up_nothing_else(
    environment: Environment,
) -> None:
    environment(CALLBACKS_SECRET_RESOLVER="tests.redis.test_aio:slow_resolver")

    async def main() -> None:
        slow = asyncio.create_task(aenqueue("https://slow.example/", 1))
        assert (await aenqueue("https://quick.example/", 1)).accepted
        with pytest.raises(callbacks.InvalidCallback, match="no secret"):
            await aenqueue("https://none.example/", 1)
        with pytest.raises(callbacks.InvalidCallback, match=r"^\[1\]\.environment: no secret"):
            await aenqueue_many(
                {"callback_url": f"https://{name}.example/", "data": 1} for name in ("a", "none")
            )
        assert not slow.done()
        ANSWER.set()
        assert (await slow).accepted

    asyncio.run(main())


def run(code: str, redis_url: str, **settings: object) -> str:
    """What a program prints. It has `URL` and the modules that it needs."""
    head = f"import asyncio, os, signal, sys, threading, time\nimport callbacks\nURL = {URL!r}\n"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", head + code],
        env=clean_environment(REDIS_URL=redis_url, **settings),
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def test_no_thread_is_started_before_the_first_call(redis_url: str) -> None:
    code = """
callbacks.enqueue(URL, 1)
print(threading.active_count())
asyncio.run(callbacks.aenqueue(URL, 1))
print(threading.active_count() > 1, all(t.daemon for t in threading.enumerate()[1:]))
"""
    assert run(code, redis_url).split() == ["1", "True", "True"]


def test_it_works_in_a_forked_child(redis_url: str, client: redis.Redis) -> None:
    code = """
asyncio.run(callbacks.aenqueue(URL, 1, id="parent"))
if not os.fork():
    signal.alarm(20)
    asyncio.run(callbacks.aenqueue(URL, 1, id="child"))
    os._exit(0)
assert os.wait()[1] == 0
"""
    run(code, redis_url)
    assert set(client.zrange(key("expiry"), 0, -1)) == {b"parent", b"child"}


def test_the_interpreter_does_not_wait_for_a_redis_that_hangs(
    redis_url: str, server: Server
) -> None:
    code = """
async def main():
    await callbacks.aenqueue(URL, 1)
    os.kill(int(os.environ["SERVER"]), signal.SIGSTOP)
    try:
        await asyncio.wait_for(callbacks.aenqueue(URL, 1), 0.2)
    except TimeoutError:
        print("gave up")

asyncio.run(main())
"""
    assert server.process
    began = time.monotonic()
    try:
        told = run(code, redis_url, SERVER=server.process.pid, CALLBACKS_REDIS_TIMEOUT=40)
    finally:
        server.signal(signal.SIGCONT)
    assert told == "gave up\n"
    assert time.monotonic() - began < 30
