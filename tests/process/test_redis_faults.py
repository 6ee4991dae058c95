"""Redis goes away, freezes, forgets, or refuses writes under running workers.

A longer outage in mid-batch, a short stall, lost and tripled messages, and deliveries on a full
Redis are in `test_hardening.py`; what happens to single connections in
`test_redis_connections.py`.
"""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import NamedTuple

import pytest
import redis

import callbacks
from callbacks.batcher.audit import audit
from callbacks.batcher.inspector import Inspector, find
from callbacks.batcher.listing import Filter, statuses
from callbacks.batcher.scripts import Scripts
from callbacks.model import State
from callbacks.when import instant
from tests.process.conftest import System
from tests.process.faults import Enqueue, Note, command, consumers, lines, sooner
from tests.support.processes import until
from tests.support.server import Server
from tests.support.target import Hit, Response, Target

Recovered = Callable[..., None]
FAST = {
    "max_delay": 0.2,
    "check_interval": 0.5,
    "min_interval": 0.05,
    "send_interval": 0.05,
    "destination_interval": 0,
    "destination_concurrency": 0,
    "breaker_failures": 0,
}


def names(count: int, start: int = 0) -> list[str]:
    return [f"c-{n}" for n in range(start, start + count)]


def totals(system: System) -> dict[str, int]:
    return system.overview().totals


def crashed(system: System, ids: list[str]) -> list[str]:
    found = [find(system.batcher.scripts, id) for id in ids]
    return [s.id for s in found if s and s.crashes and s.state is not State.SENT]


def cancel_crashed(system: System, ids: list[str]) -> list[str]:
    """Cancel callbacks whose worker died during the request: each could wait half a minute."""

    def only_crashed_wait() -> bool:
        now = system.overview()
        return now.processing == 0 and now.queued == len(crashed(system, ids))

    until(only_crashed_wait, within=60)
    waiting = crashed(system, ids)
    assert all(callbacks.cancel(id) for id in waiting)
    return waiting


def hand_in_until_taken(url: str, id: str) -> None:
    """What a producer does while Redis comes and goes: repeat the same id until it is accepted."""
    give_up = time.monotonic() + 20
    while True:
        try:
            callbacks.enqueue(url, 1, id=id)
        except redis.RedisError:
            assert time.monotonic() < give_up
            time.sleep(0.05)
        else:
            return


def test_nothing_that_was_accepted_is_lost_when_redis_is_killed_under_its_producers(
    system: System, enqueue: Enqueue, recovered: Recovered
) -> None:
    system.configure(**FAST, redis_timeout=1)
    with Target() as target:
        enqueue(target.url, 1)
        workers = system.groups.worker()
        until(lambda: len(target.hits) >= 1, within=40)
        since = 0.0
        for n in range(1, 150):
            hand_in_until_taken(target.url, f"c-{n}")
            if n in (50, 100):
                system.server.kill()
                system.server.start()
                since = time.monotonic()
        recovered(target, names(150), since=since)
        assert workers.process.poll() is None
    assert len(target.hits) - 150 <= totals(system)["recovered"]


def test_an_orderly_restart_three_seconds_long_is_got_over_without_a_hand(
    system: System, enqueue: Enqueue, recovered: Recovered
) -> None:
    system.configure(**FAST, redis_timeout=1, retry_increment=1)
    with Target(lambda hit, nth: 503 if nth == 1 and hit.id.endswith("3") else 200) as target:
        workers = system.groups.worker()
        enqueue(target.url, 120)
        until(lambda: len(target.hits) >= 40, within=40)
        system.server.signal(signal.SIGTERM)
        assert system.server.process is not None
        system.server.process.wait(10)
        time.sleep(3)
        system.server.start()
        recovered(target, names(120), since=time.monotonic())
        assert workers.process.poll() is None
        assert len(consumers(system)) == 4
    assert totals(system)["dead"] == 0
    assert len(target.hits) - 132 <= totals(system)["recovered"]


# The tail of the append-only file


def tail(server: Server) -> Path:
    (last,) = (server.folder / "appendonlydir").glob("*.incr.aof")
    return last


def findings(server: Server, scripts: Scripts) -> list[str]:
    with server.client() as client:
        return list(audit(Inspector(Scripts(client, scripts.keys))))


def test_the_totals_balance_wherever_the_append_only_file_was_cut(
    system: System, enqueue: Enqueue, tmp_path: Path
) -> None:
    system.configure(**FAST, retry_increment=0.3)

    def answer(hit: Hit, nth: int) -> int:
        return {"1": 503 if nth == 1 else 200, "2": 404}.get(hit.id[-1], 200)

    with Target(answer) as target:
        workers = system.groups.worker()
        enqueue(target.url, 60)
        until(lambda: len(target.hits) >= 30, within=40)
        enqueue(target.url, 60, start=60)
        callbacks.cancel("c-110")
        until(lambda: len(target.hits) >= 80, within=40)
        system.server.kill()
        workers.kill()
    whole = tmp_path / "whole"
    shutil.copytree(system.server.folder / "appendonlydir", whole)
    size = tail(system.server).stat().st_size
    states = set()
    for nth in range(25):  # an odd step, so that cuts fall inside commands and transactions
        keep = size - 1 - nth * (size // 27 + 13)
        shutil.rmtree(system.server.folder / "appendonlydir")
        shutil.copytree(whole, system.server.folder / "appendonlydir")
        with tail(system.server).open("r+b") as file:
            file.truncate(keep)
        system.server.start()
        assert findings(system.server, system.batcher.scripts) == [], f"{keep} of {size} bytes"
        states.add(tuple(totals(system).items()))
        system.server.kill()
    assert len(states) >= 10, "the cuts have lost too little to tell"


def test_what_a_cut_append_only_file_lost_is_healed_by_handing_it_in_again(
    system: System, enqueue: Enqueue, recovered: Recovered
) -> None:
    system.configure(**FAST, redis_timeout=1, deadline=1, stuck_after=9)
    with Target() as target:
        workers = system.groups.worker()
        enqueue(target.url, 60)
        until(lambda: len(target.hits) >= 20, within=40)
        before = tail(system.server).stat().st_size
        enqueue(target.url, 60, start=60)
        after = tail(system.server).stat().st_size
        until(lambda: len(target.hits) >= 40, within=40)
        system.server.kill()
        sent = target.counts()
        with tail(system.server).open("r+b") as file:
            file.truncate((before + after) // 2)
        system.server.start()
        since = time.monotonic()
        assert system.audit() == []
        known = [id for id in names(120) if find(system.batcher.scripts, id)]
        assert len(known) < 120, "the cut has lost nothing"
        for n in range(120):
            hand_in_until_taken(target.url, f"c-{n}")
        cancel_crashed(system, names(120))
        recovered(target, names(120), since=since)
        assert workers.process.poll() is None
    again = {id for id, hits in target.counts().items() if hits > 1}
    assert max(target.counts().values()) <= 2
    assert len(again - set(sent)) <= 32, "what no thread was about to send has gone out twice"


# Redis forgets everything


@pytest.mark.parametrize("how", ["flushed", "restarted"])
def test_an_empty_redis_stops_no_worker_and_takes_new_work(
    system: System, enqueue: Enqueue, recovered: Recovered, how: str
) -> None:
    system.configure(**FAST, redis_timeout=1)
    with Target() as target:
        workers = system.groups.worker()
        enqueue(target.url, 150)
        until(lambda: len(target.hits) >= 30, within=40)
        assert json.loads(command(system, "status", "--json"))["data_lost_at"] is None
        lost_s = time.time()
        forget(system, how)
        since = time.monotonic()
        enqueue(target.url, 60, start=200)
        recovered(target, names(60, start=200), since=since)
        until(lambda: workers.output.count("event=redis_lost_data") >= 2, within=10)
        assert workers.process.poll() is None
    assert max(target.counts().values()) == 1
    assert totals(system)["accepted"] == 60
    assert "Traceback" not in workers.output
    assert workers.output.count("event=redis_lost_data") == 2, "each process says so once"
    noticed = json.loads(command(system, "status", "--json"))["data_lost_at"]
    assert lost_s <= instant(noticed) <= time.time()
    assert "lost its data" in command(system, "status")


def forget(system: System, how: str) -> None:
    if how == "flushed":
        system.batcher.scripts.client.flushall()
        return
    system.server.kill()
    system.server.options = ()
    system.server.start()


# Redis stalls


class Stall(NamedTuple):
    """The server is stopped, or delays every command, for some seconds."""

    how: str
    seconds: float
    timeout: float
    """CALLBACKS_REDIS_TIMEOUT of the workers."""

    def strike(self, system: System) -> None:
        if self.how == "paused":
            system.batcher.scripts.client.client_pause(int(self.seconds * 1000))
            time.sleep(self.seconds)
            return
        system.server.signal(signal.SIGSTOP)
        time.sleep(self.seconds)
        system.server.signal(signal.SIGCONT)


#: Worker threads in total.
THREADS = 16
#: Callbacks after the stall.
AFTER = 3 * THREADS
#: How long requests are held until there are this many; a dead thread's would never come.
PATIENCE_S = 20


class Together:
    """An `answer` that holds requests until one per thread is in flight at once."""

    def __init__(self) -> None:
        self._all: Future[None] = Future()
        self._in_flight = 0

    def reached(self) -> bool:
        return self._all.done()

    def __call__(self) -> Response:
        self._in_flight += 1
        if self._in_flight == THREADS:
            self._all.set_result(None)
        return Response(until=self._all)


def through(
    fault: Stall, system: System, enqueue: Enqueue, recovered: Recovered, *modules: str
) -> Target:
    """Strike in the middle of deliveries; then all must arrive, with every thread at work."""
    limits = {"deadline": PATIENCE_S + 5, "read_timeout": PATIENCE_S + 5, "unproven_share": 1}
    system.configure(**FAST, **limits, redis_timeout=fault.timeout, retry_increment=1)
    together = Together()

    def answer(hit: Hit, nth: int) -> Response:
        number = int(hit.id[2:])
        if number >= 60:
            return together()
        # After a while, so that some are answered, and granted a retry, during the stall.
        return Response(503 if nth == 1 and number % 3 == 0 else 200, delay_s=0.5)

    with Target(answer) as target:
        workers = system.groups.worker(threads=THREADS // 2, modules=modules)
        enqueue(target.url, 60)
        until(lambda: len(target.hits) >= 20, within=40)
        said = lines(workers)
        fault.strike(system)
        assert lines(workers) - said <= 40 + fault.seconds, "the stall floods the log"
        since = time.monotonic()
        enqueue(target.url, AFTER, start=60)  # more than one process alone would take
        recovered(target, names(60 + AFTER), since=since)
        assert workers.process.poll() is None
        assert together.reached(), "a worker thread has died"
        assert len(consumers(system)) == 4
    assert (totals(system)["sent"], totals(system)["dead"]) == (60 + AFTER, 0)
    return target


@pytest.mark.parametrize(
    "fault", [Stall("stopped", 8, 1), Stall("paused", 8, 1), Stall("stopped", 14, 5)], ids=str
)
def test_a_long_stall_costs_no_thread_no_retry_and_no_budget(
    system: System, enqueue: Enqueue, recovered: Recovered, fault: Stall
) -> None:
    target = through(fault, system, enqueue, recovered)
    assert totals(system)["retried"] == 20
    assert totals(system)["recovered"] == 0, "a stall shorter than a lease is nobody's crash"
    assert len(target.hits) == 60 + AFTER + 20


@pytest.mark.timeout(250)
def test_a_stall_of_a_minute_costs_no_thread_and_only_what_was_in_flight_may_come_twice(
    system: System, enqueue: Enqueue, recovered: Recovered, tmp_path: Path, record_property: Note
) -> None:
    target = through(Stall("stopped", 60, 5), system, enqueue, recovered, sooner(tmp_path))
    again = totals(system)["retried"] + totals(system)["recovered"]
    record_property("recovered", totals(system)["recovered"])
    assert again >= 20, "a retry was lost"
    assert len(target.hits) <= 60 + AFTER + again
    assert totals(system)["recovered"] <= THREADS


# Redis refuses writes


def test_a_redis_that_is_read_only_for_six_seconds_loses_nothing(
    system: System, enqueue: Enqueue, recovered: Recovered
) -> None:
    system.configure(**FAST, redis_timeout=1, retry_increment=1)
    client = system.batcher.scripts.client
    client.config_set("replica-serve-stale-data", "yes")
    with Target(lambda hit, nth: 503 if nth == 1 and hit.id.endswith("3") else 200) as target:
        workers = system.groups.worker()
        enqueue(target.url, 120)
        until(lambda: len(target.hits) >= 30, within=40)
        client.execute_command("REPLICAOF", "127.0.0.1", "1")  # nothing listens there
        time.sleep(6)
        client.execute_command("REPLICAOF", "NO", "ONE")
        recovered(target, names(120), since=time.monotonic())
        assert workers.process.poll() is None
        assert len(consumers(system)) == 4
    assert totals(system)["dead"] == 0
    assert len(target.hits) - 132 <= totals(system)["recovered"]


def test_everything_but_an_enqueue_works_on_a_full_redis(
    system: System, enqueue: Enqueue, recovered: Recovered
) -> None:
    """Retries, dead letters, releases, recoveries and cancels; freed memory is used at once."""
    system.configure(**FAST, retry_increment=0.5, deadline=1, stuck_after=9)
    client = system.batcher.scripts.client
    with Target(in_three_ways) as target:
        enqueue(target.url, 90)
        client.config_set("maxmemory", 100_000)  # less than an empty one uses
        workers = system.groups.worker()
        until(lambda: len(target.hits) >= 45, within=40)
        release_all(system)
        until(lambda: any(id in target.counts() for id in in_flight(system)), within=10)
        workers.kill()
        system.groups.worker()
        until(lambda: totals(system)["recovered"] > 0, within=40)
        cancelled = cancel_crashed(system, names(90))
        recovered(target, set(names(90)) - set(cancelled), since=time.monotonic())
        assert totals(system)["dead"] >= 8
        assert totals(system)["retried"] >= 8
        with pytest.raises(callbacks.QueueFull):
            callbacks.enqueue(target.url, 1)
        client.config_set("maxmemory", 0)
        until(lambda: not client.hexists("{callbacks}:state", "full"), within=10)
        enqueue(target.url, 10, start=90)
        recovered(target, names(10, start=90), since=time.monotonic())


def in_three_ways(hit: Hit, nth: int) -> Response:
    kind = hit.id[-1]
    status = {"1": 503 if nth == 1 else 200, "2": 404}.get(kind, 200)
    return Response(status, delay_s=0.5 if kind == "3" else 0.02)


def in_flight(system: System) -> list[str]:
    return [
        s.id for s in statuses(system.inspector, Filter(State.PROCESSING)) if s.phase == "sending"
    ]


def release_all(system: System) -> None:
    system.batcher.pause()
    until(lambda: system.overview().processing == 0, within=10)
    assert system.overview().queued > 0
    system.batcher.resume()
