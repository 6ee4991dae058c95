"""Fixtures of all tiers. A test owns its Redis; a server that cannot start is a failure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import hypothesis
import pytest
import redis

from callbacks import runtime
from callbacks.batcher.client import connect
from callbacks.batcher.inspector import Inspector
from callbacks.batcher.shards import Shards
from callbacks.batcher.store import Batcher
from callbacks.settings import Settings, load_settings
from tests.support.server import Server, binaries
from tests.support.topologies import ClusterSystem, SentinelSystem, cluster, sentinels

hypothesis.settings.register_profile("ours", deadline=None)  # a busy machine is not a failure
hypothesis.settings.load_profile("ours")


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "random sequences of calls in each test of the state machine"
    parser.addoption("--examples", type=int, default=20, help=text)
    text = "how often the test of the outbox kills its application"
    parser.addoption("--kills", type=int, default=30, help=text)
    text = "how long Redis hangs in the test of the event loop, in seconds"
    parser.addoption("--stall", type=float, default=1.0, help=text)
    text = "folder for pictures of the console, as in the README"
    parser.addoption("--screenshots", default="", help=text)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the Redis tier against every available server, the other tiers against Valkey.

    The oldest one only runs where servers differ: all verbs, and the forms of errors.
    """
    if "server_name" in metafunc.fixturenames:
        place, names = metafunc.definition.nodeid, list(binaries())
        if not any(name in place for name in _WITH_THE_OLDEST):
            names = [name for name in names if name != "redis-6.2"]
        if "tests/redis/" not in place:
            names = ["valkey"]
        metafunc.parametrize("server_name", names, scope="session")


_WITH_THE_OLDEST = ("redis/test_machine", "redis/test_redis_errors", "redis/test_api")


@pytest.fixture(scope="session")
def server(server_name: str) -> Iterator[Server]:
    started = Server(binaries()[server_name]).start()
    yield started
    started.stop()


@pytest.fixture(scope="module")
def watched() -> Iterator[SentinelSystem]:
    """A primary with two replicas and three Sentinels."""
    with sentinels() as system:
        yield system


@pytest.fixture(scope="module")
def spread() -> Iterator[ClusterSystem]:
    """A cluster of three primaries and three replicas."""
    with cluster() as system:
        yield system


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    with server.client() as raw:
        raw.config_set("maxmemory", 0)
        raw.flushall()
        raw.script_flush()
        yield raw


@pytest.fixture
def redis_url(server: Server, client: redis.Redis) -> str:
    """The URL of a private, empty server."""
    return server.url


@pytest.fixture
def make_settings(redis_url: str) -> Callable[..., Settings]:
    """Settings from keyword arguments: `batch_size=5` is CALLBACKS_BATCH_SIZE=5."""

    def make(**given: object) -> Settings:
        environ = {f"CALLBACKS_{name.upper()}": str(value) for name, value in given.items()}
        return load_settings({"REDIS_URL": redis_url} | environ)

    return make


@pytest.fixture
def make_batcher(make_settings: Callable[..., Settings]) -> Iterator[Callable[..., Batcher]]:
    clients: list[redis.Redis] = []

    def make(**given: object) -> Batcher:
        settings = make_settings(**given)
        clients.append(connect(settings))
        return Batcher(clients[-1], settings)

    yield make
    for opened in clients:
        opened.close()
        opened.connection_pool.disconnect()


@pytest.fixture
def make_shards(make_settings: Callable[..., Settings]) -> Iterator[Callable[..., Shards]]:
    """All shards of one system, 4 unless the test says otherwise."""
    clients: list[redis.Redis] = []

    def make(**given: object) -> Shards:
        settings = make_settings(**({"shards": 4} | given))
        clients.append(connect(settings))
        return Shards(clients[-1], settings)

    yield make
    for opened in clients:
        opened.close()
        opened.connection_pool.disconnect()


@pytest.fixture
def shards(make_shards: Callable[..., Shards]) -> Shards:
    return make_shards()


@pytest.fixture
def batcher(make_batcher: Callable[..., Batcher]) -> Batcher:
    return make_batcher()


@pytest.fixture
def inspector(batcher: Batcher) -> Inspector:
    return Inspector(batcher.scripts)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, redis_url: str) -> Iterator[Callable[..., None]]:
    """This process's environment: `environment(CALLBACKS_BATCH_SIZE=5)` sets and reloads."""
    forget = forget_runtime()
    monkeypatch.setenv("REDIS_URL", redis_url)

    def change(**given: Any) -> None:
        for name, value in given.items():
            monkeypatch.setenv(name, str(value))
        forget()

    change()
    yield change
    forget()


def forget_runtime() -> Callable[[], None]:
    """Forget what an earlier test left, now and at each call of what is returned."""

    def forget() -> None:
        made = runtime._once.forget()
        if made is not None:
            made.client.close()
            made.client.connection_pool.disconnect()
        runtime.broker.forget_client()

    forget()
    return forget
