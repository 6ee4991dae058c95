"""Every form of error of every server, from real ones, and what a connection makes of it."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from redis.exceptions import BusyLoadingError, NoPermissionError, OutOfMemoryError

from callbacks.batcher import client as redis_client
from callbacks.batcher.client import connect
from callbacks.batcher.errors import AWAY, KINDS, NotNow, NotPrimary, WrongForm
from callbacks.settings import load_settings
from tests.support.processes import until
from tests.support.proxy import Proxy
from tests.support.server import Server, binaries

SET = ("SET", "a", 1)
SCRIPTED = ("EVAL", "return redis.call('SET', 'a', 1)", 0)
#: In a function, in a script that declares its key.
NESTED = (
    "EVAL",
    "local function set()\n return redis.call('SET', KEYS[1], 1)\nend\nset()",
    1,
    "a",
)
WRITES = (SET, SCRIPTED, NESTED)
GET = ("GET", "a")


@pytest.fixture
def start(server_name: str) -> Iterator[Callable[..., Server]]:
    """A test's own servers, whose state affects no others."""
    started: list[Server] = []

    def run(*options: str) -> Server:
        quick = ("--repl-diskless-sync-delay", "0")
        started.append(Server(binaries()[server_name], *quick, *options).start())
        return started[-1]

    yield run
    for each in started:
        each.stop()


@contextlib.contextmanager
def ours(url: str, **more: object) -> Iterator[redis.Redis]:
    """Our client, in which each command may use another connection."""
    environ = {f"CALLBACKS_{name.upper()}": str(value) for name, value in more.items()}
    with connect(load_settings({"REDIS_URL": url} | environ)) as client:
        yield client
        client.connection_pool.disconnect()


def error_of(client: redis.Redis, *command: Any) -> Exception | None:
    try:
        client.execute_command(*command)
    except redis.RedisError as error:
        return error
    return None


def kinds(client: redis.Redis, *commands: tuple[Any, ...]) -> list[type[Exception]]:
    return [type(error_of(client, *command)) for command in commands]


def replica_of(start: Callable[..., Server], primary: Server) -> Server:
    replica = start()
    with replica.client() as raw:
        raw.replicaof("127.0.0.1", primary.port)  # type: ignore[no-untyped-call]
        until(lambda: raw.info("replication")["master_link_status"] == "up", within=20)
    return replica


def test_a_replica_is_not_the_primary(start: Callable[..., Server]) -> None:
    primary = start()
    replica = replica_of(start, primary)
    with ours(replica.url) as client:
        assert kinds(client, *WRITES) == [NotPrimary] * 3
        assert str(error_of(client, *SCRIPTED)) == str(error_of(client, *SET))
        assert str(error_of(client, *SET)).startswith("READONLY You can't write")
        with replica.client() as raw:
            raw.config_set("replica-serve-stale-data", "no")
            primary.kill()
            until(lambda: raw.info("replication")["master_link_status"] == "down", within=20)
        assert kinds(client, GET, *WRITES) == [NotPrimary] * 4


def test_too_few_replicas_and_a_full_disk_are_for_now(
    start: Callable[..., Server], server_name: str
) -> None:
    server = start("--min-replicas-to-write", "1")
    with ours(server.url) as client:
        assert error_of(client, *SET).__class__ is NotNow
        if server_name != "redis-6.2":  # whose scripts may still write
            assert kinds(client, SCRIPTED, NESTED) == [NotNow] * 2
        client.config_set("min-replicas-to-write", 0)
        client.set("b", 1)
        (server.folder / "dump.rdb" / "in the way").mkdir(parents=True)
        client.config_set("save", "1000 1")
        client.bgsave()
        until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err", within=20)
        assert kinds(client, *WRITES) == [NotNow] * 3
        assert str(error_of(client, *SCRIPTED)).startswith("MISCONF ")


def test_a_full_memory_is_recognized_in_scripts_too(start: Callable[..., Server]) -> None:
    with ours(start("--maxmemory", "1").url) as client:
        assert kinds(client, *WRITES) == [OutOfMemoryError] * 3


def test_a_script_that_runs_on_is_for_now(start: Callable[..., Server]) -> None:
    server = start("--lua-time-limit", "10")
    with ours(server.url) as client, server.client() as other:
        client.ping()
        endless = threading.Thread(target=error_of, args=(other, "EVAL", "while true do end", 0))
        endless.start()
        until(lambda: error_of(client, *GET) is not None, within=20)
        assert kinds(client, GET, *WRITES) == [NotNow] * 4
        client.script_kill()
        endless.join(10)


def test_a_missing_permission_is_recognized_in_scripts_too(
    start: Callable[..., Server],
) -> None:
    server = start()
    with server.client() as raw:
        raw.execute_command("ACL", "SETUSER", "u", "on", ">p", "~*", "+@all", "-set")
        raw.execute_command("ACL", "SETUSER", "v", "on", ">p", "~other:*", "+@all")
    for user in ("u", "v"):
        with ours(f"redis://{user}:p@127.0.0.1:{server.port}/0") as client:
            assert kinds(client, *WRITES) == [NoPermissionError] * 3
    with ours(f"redis://u:wrong@127.0.0.1:{server.port}/0") as client:
        assert kinds(client, SET) == [redis.AuthenticationError]
    with server.client() as raw:
        raw.config_set("requirepass", "secret")
    with ours(server.url) as client:
        assert kinds(client, SET) == [redis.AuthenticationError]


def test_a_server_that_loads_its_data_is_left_at_once(start: Callable[..., Server]) -> None:
    server = start("--key-load-delay", "1000")
    with server.client() as raw:
        raw.mset({f"k-{n}": random.randbytes(20_000) for n in range(2_000)})
        raw.save()
    server.kill()
    server.start(ready=False)
    with ours(server.url) as client:
        found: list[Exception | None] = []

        def loads() -> bool:
            found.append(error_of(client, *GET))
            return isinstance(found[-1], BusyLoadingError)

        until(loads, within=10, what=str(found))
        assert isinstance(found[-1], AWAY)


def test_a_node_of_a_cluster_is_refused_with_what_to_do(start: Callable[..., Server]) -> None:
    server = start("--cluster-enabled", "yes")
    with ours(server.url) as client:
        error = error_of(client, *GET)
    assert isinstance(error, WrongForm)
    assert "REDIS_URL" in str(error)
    assert "redis+cluster://host:port" in str(error)


def test_a_cluster_that_has_no_slots_or_lost_some_is_down(
    start: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_client._Pool, "check", lambda pool, told: None)
    server = start("--cluster-enabled", "yes")
    with ours(server.url) as client:
        assert kinds(client, GET, *WRITES) == [NotPrimary] * 4
        client.execute_command("CLUSTER", "ADDSLOTS", *range(10_001))
        client.config_set("cluster-require-full-coverage", "no")
        assert kinds(client, GET, *WRITES) == [NotPrimary] * 4


def test_a_demoted_servers_connections_are_all_made_anew(start: Callable[..., Server]) -> None:
    old = start()
    new = replica_of(start, old)
    with Proxy(old.port) as proxy, ours(proxy.url) as client:
        pool = client.connection_pool
        first, second = pool.get_connection(), pool.get_connection()
        pool.release(first)
        pool.release(second)
        with old.client() as raw, new.client() as promoted:
            promoted.replicaof("NO", "ONE")  # type: ignore[no-untyped-call]
            raw.replicaof("127.0.0.1", new.port)  # type: ignore[no-untyped-call]
        proxy.forward_to(new.port)
        for connection in (first, second):
            connection.since = 0  # not among the young ones
        assert kinds(client, SET) == [NotPrimary]
        one, other = pool.get_connection(), pool.get_connection()
        assert {one, other} == {first, second}
        for connection in (one, other):
            connection.send_command("SET", "a", "2")
            assert connection.read_response() == b"OK"
            pool.release(connection)
        with new.client() as raw:
            assert raw.get("a") == b"2"


def test_while_there_is_no_primary_it_is_looked_for_a_few_times_a_second(
    start: Callable[..., Server],
) -> None:
    server = start()
    with ours(server.url, redis_max_connections=1) as client, server.client() as raw:
        client.ping()
        raw.replicaof("127.0.0.1", 1)  # type: ignore[no-untyped-call]
        before = raw.info("stats")["total_connections_received"]
        began = time.monotonic()
        for _ in range(500):
            assert kinds(client, SET) == [NotPrimary]
        most = (time.monotonic() - began) / redis_client.LOOK_AGAIN_S + 1
        assert raw.info("stats")["total_connections_received"] - before <= most


def test_each_code_of_the_table_is_one_that_scripts_may_wrap() -> None:
    wrapped = (
        "ERR Error running script (call to f_ab12): @user_script:7: @user_script: 7: -{} words"
    )
    parse = redis_client._Parser.parse_error
    for code, kind in KINDS.items():
        for form in (f"{code} words", wrapped.format(code), f"{code} words script: ab12, on @x:1."):
            assert type(parse(form)) is kind, form
