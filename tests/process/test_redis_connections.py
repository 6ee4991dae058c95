"""Connections to Redis break, are refused or lose a reply under running workers."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import redis

import callbacks
from callbacks.batcher.inspector import find
from callbacks.batcher.listing import Filter, statuses
from callbacks.model import State
from tests.process.conftest import System
from tests.process.faults import Enqueue, Note, consumers, lines
from tests.support.again import Again
from tests.support.processes import Group, until
from tests.support.proxy import Proxy
from tests.support.target import Hit, Target

Recovered = Callable[..., None]
FAST = {
    "max_delay": 0.2,
    "check_interval": 0.5,
    "min_interval": 0.05,
    "send_interval": 0.05,
    "destination_interval": 0,
    "destination_concurrency": 0,
    "breaker_failures": 0,
    "redis_timeout": 0.5,
}
lost_as = pytest.mark.parametrize("hang", [False, True], ids=["closed", "hanging"])


def names(count: int, start: int = 0) -> list[str]:
    return [f"c-{n}" for n in range(start, start + count)]


def totals(system: System) -> dict[str, int]:
    return system.overview().totals


def complaints(worker: Group) -> list[str]:
    """What a worker logs besides its attempts and batches."""
    bad = ("level=warning", "level=error", "[WARNING]", "[ERROR]", "[CRITICAL]", "Traceback")
    return [line for line in worker.output.splitlines() if any(word in line for word in bad)]


def third_refused_first(hit: Hit, nth: int) -> int:
    return 503 if nth == 1 and int(hit.id[2:]) % 3 == 0 else 200


def test_clients_killed_ten_times_a_second_settle_all_the_same(
    system: System, enqueue: Enqueue, recovered: Recovered
) -> None:
    system.configure(**FAST, retry_increment=1)
    with Target(third_refused_first) as target:
        workers = system.groups.worker()
        enqueue(target.url, 120)
        until(lambda: len(target.hits) >= 10, within=40)
        with system.server.client(single_connection_client=True) as killer:

            def kill() -> None:
                killer.execute_command("CLIENT", "KILL", "TYPE", "normal")

            with Again(kill, every=0.1) as kills:
                time.sleep(10)
        recovered(target, names(120), since=time.monotonic())
        assert kills.times >= 50
        assert workers.process.poll() is None
        assert len(consumers(system)) == 4
    assert totals(system)["dead"] == 0
    assert len(target.hits) - 160 <= totals(system)["recovered"]


# Replies that never come


@lost_as
def test_a_batch_whose_claim_lost_its_reply_is_sent_once_and_soon(
    system: System, enqueue: Enqueue, recovered: Recovered, hang: bool
) -> None:
    system.configure(**FAST)
    with Proxy(system.server.port) as proxy, Target() as target:
        system.groups.worker(REDIS_URL=proxy.url)
        enqueue(target.url, 1)
        until(lambda: len(target.hits) == 1, within=40)
        proxy.swallow("claim", times=3, hang=hang)  # and both repeats
        enqueue(target.url, 60, start=1)
        until(lambda: proxy.swallowed == 3, within=10)
        since = time.monotonic()
        waiting = statuses(system.inspector, Filter(State.PROCESSING))
        assert [status.phase for status in waiting].count("claimed") >= 5
        recovered(target, names(61), since=since, within=40)
    assert set(target.counts().values()) == {1}
    assert totals(system)["recovered"] == 0


@lost_as
def test_an_enqueue_that_is_repeated_because_its_reply_was_lost_is_one_callback(
    system: System, enqueue: Enqueue, recovered: Recovered, hang: bool
) -> None:
    system.configure(**FAST)
    with Proxy(system.server.port) as proxy, Target() as target:
        system.environ["REDIS_URL"] = proxy.url  # only the producer's
        enqueue(target.url, 1)
        for _ in range(5):
            proxy.swallow("enqueue", hang=hang)
            with pytest.raises((redis.ConnectionError, redis.TimeoutError)) as lost:
                callbacks.enqueue(target.url, 1)
            id = lost.value.callback_id
            assert callbacks.enqueue(target.url, 1, id=id) == callbacks.Receipt(id, False)
        many = [{"callback_url": target.url, "data": n, "id": f"m-{n}"} for n in range(20)]
        proxy.swallow("enqueue", hang=hang)
        with pytest.raises((redis.ConnectionError, redis.TimeoutError)):
            callbacks.enqueue_many(many)
        callbacks.enqueue_many(many)
        assert proxy.swallowed == 6
        system.groups.worker()
        recovered(target, [f"m-{n}" for n in range(20)], since=time.monotonic())
    assert set(target.counts().values()) == {1}
    assert totals(system)["accepted"] == 26


@lost_as
@pytest.mark.parametrize("verb", ["begin", "settle"])
def test_an_attempt_whose_replies_are_lost_is_made_and_counted_once(
    system: System, enqueue: Enqueue, recovered: Recovered, verb: str, hang: bool
) -> None:
    system.configure(**FAST, retry_increment=0.5)
    with Proxy(system.server.port) as proxy, Target(third_refused_first) as target:
        workers = system.groups.worker(REDIS_URL=proxy.url)
        until(lambda: "ready for action" in workers.output, within=40)
        proxy.swallow(verb, times=12, hang=hang)
        enqueue(target.url, 60)
        recovered(target, names(60), since=time.monotonic())
        assert proxy.swallowed == 12
    counted = totals(system)
    assert (counted["sent"], counted["retried"], counted["attempts"]) == (60, 20, 80)
    assert (counted["recovered"], len(target.hits)) == (0, 80)
    for id in names(60):
        status = find(system.batcher.scripts, id)
        assert status is not None
        assert len(status.history) == status.attempts == target.counts()[id]


# Connections refused, closed, and without their scripts


def rejected(client: redis.Redis) -> int:
    return int(client.info("stats")["rejected_connections"])


def test_workers_wait_while_redis_takes_no_more_connections(
    system: System, enqueue: Enqueue, recovered: Recovered, record_property: Note
) -> None:
    system.configure(**FAST, retry_increment=1)
    own = system.batcher.scripts.client
    with Target(third_refused_first) as target:
        workers = system.groups.worker()
        enqueue(target.url, 90)
        until(lambda: len(target.hits) >= 20, within=40)
        held = [system.server.client(single_connection_client=True) for _ in range(20)]
        own.config_set("maxclients", len(held))
        for row in own.client_list():
            if row["name"] == "callbacks" and int(row["id"]) != own.client_id():
                own.client_kill_filter(_id=row["id"])
        with pytest.raises(redis.ConnectionError):
            callbacks.enqueue(target.url, 1)
        arrived, said = len(target.hits), lines(workers)
        refused = rejected(own)
        time.sleep(6)
        refused = rejected(own) - refused
        said = lines(workers) - said
        record_property("connections refused a second", round(refused / 6, 1))
        record_property("lines meanwhile", said)
        assert 0 < refused <= 100 * 6, "they ask without a pause"
        assert said <= 40
        assert len(target.hits) <= arrived + 32, "somebody has got a connection"
        assert workers.process.poll() is None
        own.config_set("maxclients", 1000)
        recovered(target, names(90), since=time.monotonic())
        for client in held:
            client.close()
        assert workers.process.poll() is None
        assert len(consumers(system)) == 4
    assert totals(system)["dead"] == 0
    assert len(target.hits) - 120 <= totals(system)["recovered"]


def test_idle_connections_that_the_server_closes_are_no_error(
    system: System, enqueue: Enqueue, recovered: Recovered
) -> None:
    system.configure(**FAST | {"send_interval": 0, "redis_timeout": 5})
    client = system.batcher.scripts.client
    client.config_set("timeout", 1)
    client.config_set("loglevel", "verbose")
    with Target() as target:
        workers = system.groups.worker()
        for burst in range(4):
            enqueue(target.url, 25, start=25 * burst)
            until(lambda burst=burst: len(target.hits) >= 25 * (burst + 1), within=40)
            time.sleep(2.5)
        recovered(target, names(100), since=time.monotonic())
    assert (system.server.folder / "server.log").read_text().count("Closing idle client") >= 4
    assert complaints(workers) == []
    assert set(target.counts().values()) == {1}


def test_scripts_flushed_every_few_milliseconds_are_not_missed(
    system: System, enqueue: Enqueue, recovered: Recovered
) -> None:
    system.configure(**FAST | {"send_interval": 0.02})
    with Target() as target, system.server.client() as flusher:
        workers = system.groups.worker()
        until(lambda: "ready for action" in workers.output, within=40)
        with Again(flusher.script_flush, every=0.003) as flushes:
            for n in range(150):
                enqueue(target.url, 1, start=n)
            recovered(target, names(150), since=time.monotonic())
        assert flushes.times >= 200
    assert complaints(workers) == []
    assert set(target.counts().values()) == {1}
