"""`CALLBACKS_WAIT_FOR`: `enqueue` returns only when Redis says that it is safe."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator

import pytest
import redis

import callbacks
from callbacks.batcher.inspector import find
from callbacks.batcher.routes import own_shard, shard_of
from callbacks.batcher.scripts import VERBS
from callbacks.runtime import runtime
from tests.conftest import forget_runtime
from tests.support.oldest import needs_oldest
from tests.support.processes import until
from tests.support.server import Server, binaries

URL = "https://a.example/x"
Given = Callable[..., None]


@pytest.fixture(scope="module")
def pair(server_name: str) -> Iterator[tuple[Server, Server]]:
    """A primary that fsyncs always, and its replica."""
    options = ("--appendonly", "yes", "--appendfsync", "always", "--repl-diskless-sync-delay", "0")
    primary = Server(binaries()[server_name], *options).start()
    replica = Server(binaries()[server_name], *options).start()
    yield primary, replica
    replica.stop()
    primary.stop()


@pytest.fixture
def primary(pair: tuple[Server, Server]) -> Iterator[redis.Redis]:
    """The empty primary, its replica connected."""
    first, second = pair
    with first.client() as raw, second.client() as other:
        other.replicaof("127.0.0.1", first.port)  # type: ignore[no-untyped-call]
        until(lambda: other.info("replication")["master_link_status"] == "up", within=20)
        raw.flushall()
        for verb in VERBS.values():  # a server that does not know a script is asked twice
            raw.script_load(verb.text)
        raw.config_set("appendonly", "yes")
        raw.config_resetstat()
        yield raw


@pytest.fixture
def given(
    pair: tuple[Server, Server], primary: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Given]:
    """Set variables: `given(wait_for="aof")`."""
    del primary
    forget = forget_runtime()
    monkeypatch.setenv("REDIS_URL", pair[0].url)
    monkeypatch.setenv("CALLBACKS_WAIT_TIMEOUT", "20")  # for a busy machine, and less than this:
    monkeypatch.setenv("CALLBACKS_REDIS_TIMEOUT", "30")

    def change(**values: object) -> None:
        for name, value in values.items():
            monkeypatch.setenv(f"CALLBACKS_{name.upper()}", str(value))
        forget()

    yield change
    forget()


def calls(raw: redis.Redis, command: str) -> int:
    found = raw.info("commandstats").get(f"cmdstat_{command}")
    return found["calls"] if found else 0


def test_by_default_nothing_is_waited_for(given: Given, primary: redis.Redis) -> None:
    given()
    callbacks.enqueue(URL, 1)
    assert calls(primary, "wait") == calls(primary, "waitaof") == 0


@pytest.mark.parametrize(
    ("wait_for", "waits"), [("replica", (1, 0)), ("aof", (0, 1)), ("aof+replica", (1, 1))]
)
def test_an_enqueue_waits_for_what_is_asked(
    given: Given, primary: redis.Redis, wait_for: str, waits: tuple[int, int]
) -> None:
    given(wait_for=wait_for)
    assert callbacks.enqueue(URL, 1, id="c-1").accepted
    assert (calls(primary, "wait"), calls(primary, "waitaof")) == waits


def test_a_callback_that_no_replica_has_is_stored_and_not_durable(
    given: Given, primary: redis.Redis, pair: tuple[Server, Server]
) -> None:
    given(wait_for="replica", wait_timeout=0.1)
    callbacks.enqueue(URL, 1)  # opens the connections
    pair[1].signal(signal.SIGSTOP)
    try:
        with pytest.raises(callbacks.NotDurable, match="no replica has it within") as raised:
            callbacks.enqueue(URL, 1, id="c-1")
        assert raised.value.callback_id == "c-1"
        assert isinstance(raised.value, redis.ConnectionError)
        many = [{"callback_url": URL, "data": n, "id": f"m-{n}"} for n in range(3)]
        with pytest.raises(callbacks.NotDurable) as all_of_them:
            callbacks.enqueue_many(many)
        assert (all_of_them.value.callback_id, all_of_them.value.receipts) == ("m-0", ())
    finally:
        pair[1].signal(signal.SIGCONT)
    assert find(runtime().batcher.scripts, "c-1") is not None
    until(lambda: primary.wait(1, 1_000) == 1, within=20)
    again = callbacks.enqueue(URL, 1, id="c-1")
    assert (again.id, again.accepted) == ("c-1", False)
    assert [receipt.accepted for receipt in callbacks.enqueue_many(many)] == [False] * 3


def test_a_disk_that_nothing_is_written_to_is_named(given: Given, primary: redis.Redis) -> None:
    given(wait_for="aof")
    primary.config_set("appendonly", "no")
    with pytest.raises(callbacks.NotDurable, match="appendonly"):
        callbacks.enqueue(URL, 1)


def test_a_full_queue_is_full_whatever_is_waited_for(
    given: Given, primary: redis.Redis, pair: tuple[Server, Server]
) -> None:
    given(wait_for="replica", wait_timeout=0.05, max_queued=1)
    callbacks.enqueue(URL, 1)
    pair[1].signal(signal.SIGSTOP)
    try:
        with pytest.raises(callbacks.QueueFull):
            callbacks.enqueue(URL, 1)
        with pytest.raises(callbacks.QueueFull):
            callbacks.enqueue_many([{"callback_url": URL, "data": 1}])
    finally:
        pair[1].signal(signal.SIGCONT)
    assert calls(primary, "wait") == 3


def test_threads_that_enqueue_together_wait_once(given: Given, primary: redis.Redis) -> None:
    given(wait_for="aof+replica")
    callbacks.enqueue(URL, 1)
    primary.config_resetstat()
    together = threading.Barrier(40)
    receipts: list[callbacks.Receipt] = []

    def put(n: int) -> None:
        together.wait()
        receipts.extend(callbacks.enqueue(URL, each, id=f"t-{n}-{each}") for each in range(5))

    threads = [threading.Thread(target=put, args=(n,)) for n in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(receipts) == 200
    assert calls(primary, "wait") == calls(primary, "waitaof") <= 100


def test_many_wait_once(given: Given, primary: redis.Redis) -> None:
    given(wait_for="aof+replica")
    items = [{"callback_url": URL, "data": n} for n in range(500)]
    assert len(callbacks.enqueue_many(items)) == 500
    assert calls(primary, "wait") == calls(primary, "waitaof") == 1


def test_a_reservation_is_waited_for_too(given: Given, primary: redis.Redis) -> None:
    given(wait_for="replica", shards=4)
    place = shard_of("https://a.example:443", 4)
    ids = [f"c-{n}" for n in range(100)]
    callbacks.enqueue_many([{"callback_url": URL, "data": 1, "id": id} for id in ids[50:]])
    for shard in range(4):  # Redis knows the scripts by now
        id = next(id for id in ids if own_shard(id, 4) == shard)
        primary.config_resetstat()
        assert callbacks.enqueue(URL, 1, id=id).accepted
        assert calls(primary, "wait") == (1 if shard == place else 2)


def test_other_calls_do_not_wait(given: Given, primary: redis.Redis) -> None:
    given(wait_for="replica")
    callbacks.enqueue(URL, 1, id="c-1")
    primary.config_resetstat()
    assert callbacks.cancel("c-1")
    assert callbacks.get_status("c-1") is not None
    assert calls(primary, "wait") == 0


@needs_oldest
def test_a_server_without_waitaof_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    old = Server(binaries()["redis-6.2"], "--appendonly", "yes").start()
    forget = forget_runtime()
    monkeypatch.setenv("REDIS_URL", old.url)
    monkeypatch.setenv("CALLBACKS_WAIT_FOR", "aof")
    try:
        with pytest.raises(callbacks.NotDurable, match="WAITAOF"):
            callbacks.enqueue(URL, 1)
    finally:
        forget()
        old.stop()
