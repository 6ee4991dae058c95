"""Redis' primary moves, or stops being one, and everything goes on without a restart."""

from __future__ import annotations

import itertools
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

import callbacks
from tests.process.conftest import System
from tests.process.faults import OPEN, Enqueue, Note, balanced, ready
from tests.support.oldest import OLDEST
from tests.support.processes import REPO, refusals, until
from tests.support.proxy import Proxy
from tests.support.server import Server
from tests.support.target import Hit, Response, Target

#: What docs/guarantees.md promises after the address leads to the new primary.
FOUND_S = 5.0


class Producer:
    """Enqueues one callback after another, as an application does; records the answers."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.accepted: dict[str, float] = {}
        self.errors: list[Exception] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        for n in itertools.count():
            id = f"p-{n}"
            while id not in self.accepted:
                if self._stop.wait(0.05):
                    return
                try:
                    callbacks.enqueue(self._url, n, id=id)
                except redis.RedisError as error:
                    self.errors.append(error)
                else:
                    self.accepted[id] = time.monotonic()

    def since(self, moment: float) -> list[str]:
        return [id for id, at in self.accepted.copy().items() if at >= moment]

    def __enter__(self) -> Producer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(20)


@pytest.fixture
def standby(system: System) -> Iterator[Server]:
    """A replica of the system's server, in step with it."""
    other = Server(system.server.binary, "--repl-diskless-sync-delay", "0").start()
    with other.client() as raw:
        raw.replicaof("127.0.0.1", system.server.port)  # type: ignore[no-untyped-call]
        until(lambda: raw.info("replication")["master_link_status"] == "up", within=20)
    yield other
    other.stop()


def fail_over(system: System, standby: Server, proxy: Proxy) -> float:
    """Make the replica the primary and the primary its replica, without closing connections.

    Returns when the address led to the new primary.
    """
    with system.server.client() as old, standby.client() as new:
        old.execute_command("FAILOVER")
        until(lambda: new.info("replication")["role"] == "master", within=20)
        until(lambda: old.info("replication")["role"] == "slave", within=20)
    time.sleep(1)  # addresses change after roles
    proxy.forward_to(standby.port)
    return time.monotonic()


@pytest.mark.parametrize("system", ["valkey", OLDEST], indirect=True)
def test_a_failover_whose_old_primary_stays_up_is_over_for_all_within_seconds(
    system: System, standby: Server, enqueue: Enqueue, record_property: Note
) -> None:
    with Proxy(system.server.port) as proxy, Target() as target:
        system.environ["REDIS_URL"] = proxy.url
        system.configure(**OPEN)
        workers = system.groups.worker()
        enqueue(target.url, 1)
        with Producer(target.url) as producer:
            until(lambda: len(target.hits) >= 20, within=30)
            moved = fail_over(system, standby, proxy)
            took = until(lambda: len(producer.since(moved)) >= 5, within=FOUND_S)
            new = producer.since(moved)
            until(lambda: set(new) <= set(target.counts()), within=FOUND_S - took + 1)
        record_property("s until enqueued", round(producer.accepted[new[0]] - moved, 2))
        sent = min(hit.at_s for hit in target.hits if hit.id in new)
        record_property("s until sent", round(sent - moved, 2))
        until(system.settled, within=20)
        assert set(producer.accepted) <= set(target.counts())
        assert max(target.counts().values()) == 1
        assert workers.process.poll() is None
        assert "Traceback" not in workers.output
        assert {type(error) for error in producer.errors} <= {callbacks.RedisRefused}
        assert all(error.callback_id for error in producer.errors)  # type: ignore[attr-defined]
        assert system.audit() == []


@pytest.mark.parametrize("system", ["valkey", OLDEST], indirect=True)
def test_no_finished_outcome_is_thrown_away_while_redis_takes_no_writes(
    system: System, enqueue: Enqueue
) -> None:
    def slowly(hit: Hit, nth: int) -> Response:
        return Response(delay_s=0.5)

    system.configure(**OPEN)
    client = system.batcher.scripts.client
    with Target(slowly) as target:
        workers = system.groups.worker()
        enqueue(target.url, 100)
        until(lambda: len(target.hits) >= 40, within=20)
        client.execute_command("REPLICAOF", "127.0.0.1", "1")  # nothing is there
        time.sleep(5)
        assert len(target.hits) < 100
        client.execute_command("REPLICAOF", "NO", "ONE")
        until(system.settled, within=20)
        balanced(system, target, 100)
    assert len(target.hits) == 100
    assert system.overview().totals["recovered"] == 0
    assert "Traceback" not in workers.output


def test_a_node_of_a_cluster_ends_a_worker_at_its_start_in_one_line(system: System) -> None:
    node = Server(system.server.binary, "--cluster-enabled", "yes").start()
    try:
        worker = system.groups.worker(processes=1, REDIS_URL=node.url)
        assert worker.wait(30) != 0
    finally:
        node.stop()
    (line,) = refusals(worker.output)
    assert line.startswith("callbacks: REDIS_URL leads to a node of a Redis Cluster")
    assert "redis+cluster://host:port" in line
    assert "Traceback" not in worker.output


def test_another_release_that_is_installed_over_a_running_one_costs_no_outcome(
    system: System, enqueue: Enqueue, tmp_path: Path
) -> None:
    installed = tmp_path / "site" / "callbacks"
    shutil.copytree(REPO / "callbacks", installed)
    system.configure(**OPEN, retry_increment=1)
    workers = system.groups.worker(PYTHONPATH=str(installed.parent))
    ready(workers)
    for file in (installed / "lua").rglob("*.lua"):
        file.write_text("-- a verb of another release\nreturn redis.error_reply('ERR other')\n")
    with Target(lambda hit, nth: 503 if nth == 1 and hit.id == "c-3" else 200) as target:
        enqueue(target.url, 40)
        until(system.settled, within=60)
        balanced(system, target, 40, most=2)
    assert len(target.hits) == 41
    assert "Traceback" not in workers.output
