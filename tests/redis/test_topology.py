"""Our client on real Sentinels and on a real cluster: it finds the primary, and finds it again."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import count
from typing import Any

import pytest
import redis
from click.testing import CliRunner
from dramatiq import Message

import callbacks
from callbacks.batcher.audit import audit
from callbacks.batcher.client import connect
from callbacks.batcher.errors import Elsewhere, NotPrimary, WrongForm
from callbacks.batcher.inspector import Inspector, overview
from callbacks.batcher.keys import Keys
from callbacks.batcher.routing import sender
from callbacks.batcher.scripts import Scripts
from callbacks.batcher.store import Batcher
from callbacks.cli.main import main
from callbacks.settings import load_settings
from callbacks.worker.arrivals import Listener
from callbacks.worker.broker import CallbacksBroker
from callbacks.worker.consumer import QUEUE
from tests.conftest import forget_runtime
from tests.redis.support import begin, claim_one, put, settle
from tests.support.processes import until
from tests.support.server import Server, binaries
from tests.support.topologies import (
    MASTER,
    ClusterSystem,
    Move,
    SentinelSystem,
    slot_of,
)

#: How long after a promotion the new primary must have been found.
FOUND_S = 5.0
SLOT = slot_of("callbacks")


@pytest.fixture
def place(request: pytest.FixtureRequest) -> str:
    """The URL of an empty Redis of the form that a test is parametrized with."""
    system: Any = request.getfixturevalue(request.param)
    if request.param == "watched":
        until(system.usable, within=20)
        with system.primary.client() as raw:
            raw.flushall()
    else:
        until(system.ready, within=20)
        for primary in {system.owner(slot).port: system.owner(slot) for slot in (0, 6_000, 16_000)}:
            with redis.Redis(port=primary, protocol=2) as raw:
                raw.flushall()
    return str(system.url)


both = pytest.mark.parametrize("place", ["watched", "spread"], indirect=True)
on_cluster = pytest.mark.parametrize("place", ["spread"], indirect=True)
on_sentinels = pytest.mark.parametrize("place", ["watched"], indirect=True)


@contextmanager
def client_of(url: str, **more: object) -> Iterator[redis.Redis]:
    environ = {f"CALLBACKS_{name.upper()}": str(value) for name, value in more.items()}
    client = connect(load_settings({"REDIS_URL": url} | environ))
    try:
        yield client
    finally:
        client.connection_pool.disconnect()


@contextmanager
def batcher_of(url: str, **more: object) -> Iterator[Batcher]:
    environ = {f"CALLBACKS_{name.upper()}": str(value) for name, value in more.items()}
    with client_of(url, **more) as client:
        yield Batcher(client, load_settings({"REDIS_URL": url} | environ))


class Flow:
    """Callbacks that are enqueued one after the other, as fast as Redis lets them."""

    def __init__(self, batcher: Batcher) -> None:
        self._batcher = batcher
        self.accepted: dict[str, float] = {}
        self.errors: list[Exception] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        for n in count():
            while f"f-{n}" not in self.accepted:
                if self._stop.wait(0.005):
                    return
                try:
                    put(self._batcher, f"f-{n}", proven=False)
                except redis.RedisError as error:
                    self.errors.append(error)
                else:
                    self.accepted[f"f-{n}"] = time.monotonic()

    def goes_on(self, since: float) -> float:
        """Wait for the next callback that is accepted; how many seconds after `since` it was."""
        until(lambda: max(self.accepted.values(), default=0) > since, within=FOUND_S)
        return min(at for at in self.accepted.copy().values() if at > since) - since

    def __enter__(self) -> Flow:
        self._thread.start()
        until(lambda: len(self.accepted) > 5, within=20)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(20)


# What a client can do


@both
def test_a_callback_goes_its_way_and_a_message_its_own(place: str) -> None:
    with batcher_of(place) as batcher:
        claimed = claim_one(batcher)
        begin(batcher, claimed)
        settle(batcher, claimed)
        client = batcher.scripts.client
        totals = overview(batcher.scripts).totals
        assert (totals["accepted"], totals["sent"]) == (1, 1)
        assert list(audit(Inspector(batcher.scripts))) == []
        broker = CallbacksBroker(
            lambda: (client, batcher.settings.message_namespace), middleware=[]
        )
        broker.declare_queue(QUEUE)
        broker.enqueue(Message(QUEUE, "actor", (1,), {}, {}))
        broker.enqueue(Message(QUEUE, "actor", (2,), {}, {}), delay=60_000)
        consumer = broker.consume(QUEUE)
        message: Any = next(consumer)
        assert message.args == (1,)
        consumer.ack(message)
        consumer.close()
        delayed = broker.consume(f"{QUEUE}.DQ")
        assert next(delayed) is not None
        assert broker.forget_dead_workers() == 0
        keys: Any = client.keys("*")
        assert len(keys) > 8
        assert {slot_of(key.decode()) for key in keys} == {SLOT} or place.startswith("redis+sent")


@both
def test_a_process_is_told_of_messages_that_another_one_enqueues(place: str) -> None:
    settings = load_settings({"REDIS_URL": place})
    with client_of(place) as one, client_of(place) as other:
        ours, theirs = (
            CallbacksBroker(lambda c=client: (c, settings.message_namespace), middleware=[])
            for client in (one, other)
        )
        for broker in (ours, theirs):
            broker.declare_queue(QUEUE)
        listener = Listener(lambda: connect(settings, beside=one))
        listener.after_worker_boot(ours, None)
        until(lambda: ours.arrivals.are_told, within=20)
        event = ours.arrivals.event(QUEUE)
        event.clear()
        theirs.enqueue(Message(QUEUE, "actor", (), {}, {}))
        assert event.wait(10)
        listener.before_worker_shutdown(ours, None)


def connected(servers: list[Server]) -> set[tuple[int, str]]:
    """Each connection of ours to these servers."""
    found: set[tuple[int, str]] = set()
    for server in servers:
        with server.client() as raw:
            rows = [row for row in raw.client_list() if row["name"] == "callbacks"]
            found |= {(server.port, row["id"]) for row in rows}
    return found


@both
def test_a_process_keeps_to_its_number_of_connections(
    place: str, watched: SentinelSystem, spread: ClusterSystem
) -> None:
    servers = (watched if place == watched.url else spread).servers
    before = connected(servers)
    with batcher_of(place) as batcher:
        client = batcher.scripts.client

        def work() -> None:
            for _ in range(20):
                batcher.look()
                client.hgetall("{callbacks}:state")

        with ThreadPoolExecutor(24) as pool:
            for done in [pool.submit(work) for _ in range(24)]:
                done.result()
        assert 1 <= len(connected(servers) - before) <= 4
        nodes = getattr(client.connection_pool, "nodes", None)
        if nodes is not None:
            lent = [nodes.home(key).get_connection() for key in "abcde"]
            assert len(connected(servers) - before) <= 12
            for connection in lent:
                connection.home.release(connection)


@on_cluster
def test_shards_elsewhere_are_reached_with_the_same_connections(
    place: str, spread: ClusterSystem
) -> None:
    tags = ["a", "b", "c", "d"]  # three primaries have these slots
    assert len({spread.owner(slot_of(tag)).port for tag in tags}) == 3
    with client_of(place) as client:
        shards = [Scripts(client, Keys(tag)) for tag in tags]
        for tag, scripts in zip(tags, shards, strict=True):
            scripts.client.set(scripts.keys.of("tick"), tag)
            with scripts.client.pipeline(transaction=False) as pipe:
                pipe.get(scripts.keys.of("tick"))
                pipe.get(scripts.keys.of("tick"))
                assert pipe.execute() == [tag.encode()] * 2
        sends = sender(client)
        assert all(scripts._pipeline is sends for scripts in shards)
        commands = [("GET", Keys(tags[n % 4]).of("tick")) for n in range(400)]
        assert sends.stream(iter(commands)) == [tags[n % 4].encode() for n in range(400)]
        assert [sends.call(*command) for command in commands[:4]] == [b"a", b"b", b"c", b"d"]
        told = sends.stream([("EVAL", "return KEYS[1]", 1, f"{{{tag}}}") for tag in tags])
        assert told == [b"{a}", b"{b}", b"{c}", b"{d}"]


# What is refused


def test_a_url_of_another_form_than_the_server_is_refused_with_the_right_one(
    watched: SentinelSystem, spread: ClusterSystem
) -> None:
    node, plain = spread.servers[0].port, watched.primary_port()
    watching = watched.sentinels[0].server.port
    for url, right in (
        (f"redis://127.0.0.1:{node}", "redis+cluster://host:port"),
        (f"redis://127.0.0.1:{watching}", "redis+sentinel://host:port/MASTER/DB"),
        (f"redis+cluster://127.0.0.1:{plain}", "redis://host:port/db"),
    ):
        with (
            client_of(url) as client,
            pytest.raises(WrongForm) as no,
        ):
            client.ping()
        assert right in str(no.value)
    for url in (
        f"redis+sentinel://127.0.0.1:{watching}/other/0",
        f"redis+sentinel://127.0.0.1:{plain}/{MASTER}/0",
        "redis+sentinel://127.0.0.1:1,127.0.0.1:2/main",
        "redis+cluster://127.0.0.1:1,127.0.0.1:2",
    ):
        began = time.monotonic()
        with client_of(url) as client, pytest.raises(redis.ConnectionError):
            client.ping()
        assert time.monotonic() - began < 10


def test_an_enqueue_that_no_node_answers_says_so_with_its_id(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forget = forget_runtime()
    monkeypatch.setenv("REDIS_URL", "redis+cluster://127.0.0.1:1,127.0.0.1:2")
    try:
        with pytest.raises(redis.ConnectionError) as raised:
            callbacks.enqueue("https://a.example/x", 1, id="mine")
        assert raised.value.callback_id == "mine"  # type: ignore[attr-defined]
    finally:
        forget()


# Doctor


def checks(monkeypatch: pytest.MonkeyPatch, url: str) -> dict[str, dict[str, Any]]:
    forget = forget_runtime()
    monkeypatch.setenv("REDIS_URL", url)
    try:
        result = CliRunner().invoke(main, ["doctor", "--json"])
        return {check["name"]: check for check in json.loads(result.stdout)}
    finally:
        forget()


@on_sentinels
def test_doctor_says_what_the_sentinels_know(
    place: str, watched: SentinelSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = checks(monkeypatch, place)
    assert "cluster" not in found
    assert found["sentinel"]["verdict"] == "ok"
    assert (
        f"127.0.0.1:{watched.primary_port()}, 2 replicas, 3 Sentinels" in found["sentinel"]["found"]
    )
    assert found["role"]["found"] == "primary"
    away = checks(monkeypatch, place.replace("://", "://127.0.0.1:1,"))
    assert away["sentinel"]["verdict"] == "warning"
    assert away["sentinel"]["found"].startswith("3 of 4 Sentinels in REDIS_URL answer")


@on_cluster
def test_doctor_checks_every_primary_of_a_cluster(
    place: str, spread: ClusterSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = checks(monkeypatch, place)
    assert found["cluster"]["found"] == "3 primaries, each with a replica"
    assert found["cluster"]["verdict"] == found["role"]["verdict"] == "ok"
    odd = spread.another(SLOT)
    with odd.client() as raw:
        raw.config_set("maxmemory-policy", "allkeys-lru")
        try:
            eviction = checks(monkeypatch, place)["eviction"]
        finally:
            raw.config_set("maxmemory-policy", "noeviction")
    assert eviction["verdict"] == "failure"
    assert eviction["found"].startswith(f"127.0.0.1:{odd.port}: allkeys-lru")
    with odd.client() as raw:
        raw.config_set("cluster-require-full-coverage", "yes")
        try:
            strict = checks(monkeypatch, place)["cluster"]
        finally:
            raw.config_set("cluster-require-full-coverage", "no")
    assert (strict["verdict"], "cluster-require-full-coverage no" in strict["todo"]) == (
        "warning",
        True,
    )


def test_sentinels_that_cannot_be_reached_are_told_in_a_line() -> None:
    with (
        client_of("redis+sentinel://127.0.0.1:1/main/0") as client,
        pytest.raises(redis.ConnectionError) as raised,
    ):
        client.ping()
    assert str(raised.value) == (
        "no Sentinel names a primary of main that is up:"
        " Error 111 connecting to 127.0.0.1:1. Connection refused."
    )


# The primary moves


@on_cluster
@pytest.mark.parametrize("verb", ["enqueue", "many", "read"])
def test_a_call_waits_while_its_slot_is_moved(place: str, spread: ClusterSystem, verb: str) -> None:
    to = spread.another(SLOT)
    with batcher_of(place) as batcher, batcher_of(place, redis_timeout=0.3) as hasty:
        for n in range(30):
            put(batcher, f"c-{n}")
        move = Move(spread, SLOT, to)
        move.begin()
        with pytest.raises(Elsewhere):
            put(hasty, "hasty", proven=False)
        move.keys(3)
        timer = threading.Timer(0.5, move.run)
        timer.start()
        try:
            if verb == "enqueue":
                assert put(batcher, "late", proven=False).accepted
            elif verb == "many":
                stored: Any = batcher.enqueue_many(
                    [(f"m-{n}", "https://a.example:443", b"x", 0, 60_000) for n in range(120)]  # type: ignore[list-item]
                )
                assert all(each.accepted for each in stored)
            else:
                assert len(batcher.scripts.client.zrange("{callbacks}:ring", 0, -1)) == 1
        finally:
            timer.join()
        assert list(audit(Inspector(batcher.scripts))) == []
        assert spread.owner(SLOT) is to
        assert put(hasty, "now", proven=False).accepted


@on_cluster
def test_a_slot_in_use_is_moved_there_and_back(place: str, spread: ClusterSystem) -> None:
    source = spread.owner(SLOT)
    to = spread.another(SLOT)
    with batcher_of(place) as batcher, Flow(batcher) as flow:
        for target in (to, source):
            Move(spread, SLOT, target).run(pause_s=0.01)
            flow.goes_on(time.monotonic())
        assert flow.errors == []
        totals = overview(batcher.scripts).totals
        assert totals["accepted"] >= len(flow.accepted)
    assert list(audit(Inspector(batcher.scripts))) == []


@both
def test_a_failover_on_order_is_over_within_seconds(
    place: str,
    watched: SentinelSystem,
    spread: ClusterSystem,
    record_property: Callable[[str, object], None],
) -> None:
    with batcher_of(place) as batcher, Flow(batcher) as flow:
        if place == watched.url:
            old = watched.primary_port()
            watched.fail_over()
            until(lambda: watched.promoted(but=old), within=20)
        else:
            owner = spread.owner(SLOT)
            with spread.replica_of(owner).client() as replica:
                replica.execute_command("CLUSTER", "FAILOVER")
                until(lambda: replica.role()[0] == b"master", within=20)
        took = flow.goes_on(time.monotonic())
        record_property("s from the promotion", round(took, 2))
    with suppress(AssertionError):
        until(lambda: list(audit(Inspector(batcher.scripts))) == [], within=5)
    assert list(audit(Inspector(batcher.scripts))) == []
    known = overview(batcher.scripts)
    if place == spread.url:
        assert known.queued >= len(flow.accepted)  # a replica that is ordered to takes over all
    assert flow.errors == [] or {type(error) for error in flow.errors} <= {
        redis.ConnectionError, redis.TimeoutError, NotPrimary, Elsewhere,
    }  # fmt: skip


@both
def test_a_primary_that_is_killed_is_replaced_without_a_restart(
    place: str,
    watched: SentinelSystem,
    spread: ClusterSystem,
    record_property: Callable[[str, object], None],
) -> None:
    is_watched = place == watched.url
    victim = watched.primary if is_watched else spread.owner(SLOT)
    replica = None if is_watched else spread.replica_of(victim)
    with batcher_of(place) as batcher, Flow(batcher) as flow:
        victim.kill()
        if replica is None:
            until(lambda: watched.promoted(but=victim.port), within=20)
        else:
            with replica.client() as raw:
                until(lambda: raw.role()[0] == b"master", within=20)
        record_property("s from the promotion", round(flow.goes_on(time.monotonic()), 2))
    assert list(audit(Inspector(batcher.scripts))) == []
    victim.start()


# Passwords, users and TLS


USER = (
    "on",
    ">pw",
    "~callbacks*",
    "~{callbacks}*",
    "~{callbacks:*",
    "&callbacks:*",
    "&{callbacks}:*",
    "+@all",
    "-@admin",
)


def test_passwords_of_servers_and_of_sentinels_are_their_own() -> None:
    options = ("--requirepass", "server", "--masterauth", "server")
    lines = (f"sentinel auth-pass {MASTER} server", "requirepass watch")
    system = SentinelSystem(binaries()["valkey"], *options, sentinel=lines, password="server")
    asks = {"password": "watch"}
    for each in system.sentinels:
        each.server.client = lambda s=each.server, **more: Server.client(s, **asks, **more)  # type: ignore[method-assign]
    try:
        system.start()
        url = f"redis+sentinel://:server@{system.hosts}/{MASTER}?sentinel_password=watch"
        with batcher_of(url) as batcher:
            assert put(batcher, "c-1").accepted
        for wrong in (url.replace(":server@", ""), url.replace("=watch", "=other")):
            with batcher_of(wrong) as batcher, pytest.raises(redis.RedisError) as no:
                put(batcher, "c-2", proven=False)
            assert isinstance(no.value, redis.ConnectionError | redis.ResponseError)
    finally:
        system.stop()
