"""SIGKILLs of a cluster's primary under a flood of enqueues: what was acknowledged has to be there.

`python -m tests.process.kills --kills 100` does it a hundred times. The suite does it twice.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, field

import click
import redis

import callbacks
from callbacks.batcher.audit import audit
from callbacks.batcher.inspector import Inspector
from callbacks.runtime import runtime
from tests.support.processes import until
from tests.support.topologies import ClusterSystem, cluster, slot_of

THREADS = 48
_URL = "https://a.example/x"
_DESTINATION = "https://a.example:443"


@dataclass
class Tally:
    """What happened in all rounds together."""

    kills: int = 0
    acknowledged: int = 0
    refused: int = 0
    lost: list[str] = field(default_factory=list)
    found_s: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)


class Flood:
    """Threads that enqueue `rate` callbacks a second together, each with an id of its own."""

    def __init__(self, rate: int) -> None:
        self.acknowledged: list[tuple[str, float]] = []
        self.refused = 0
        self._pause_s = THREADS / rate
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(THREADS)
        ]

    def _run(self, n: int) -> None:
        for each in range(1_000_000):
            began = time.monotonic()
            if self._stop.is_set():
                return
            id = f"{time.time_ns()}-{n}-{each}"
            try:
                callbacks.enqueue(_URL, each, id=id)
            except redis.RedisError:
                self.refused += 1
            else:
                self.acknowledged.append((id, time.monotonic()))
            self._stop.wait(max(0, began + self._pause_s - time.monotonic()))

    def __enter__(self) -> Flood:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)


def kill_once(system: ClusterSystem, rate: int, tally: Tally) -> None:
    """Kill the primary under load, and compare what was acknowledged with what its replica knows.

    The old primary comes back as the replica: without one nothing would be acknowledged.
    """
    until(system.ready, within=60)
    shard = runtime().batcher.of(_DESTINATION)
    primary = system.owner(slot_of(shard.scripts.keys.root))
    replica = system.replica_of(primary)
    with replica.client() as raw, Flood(rate) as flood:
        began = time.monotonic()
        until(lambda: len(flood.acknowledged) > rate, within=30)
        tally.rates.append(len(flood.acknowledged) / (time.monotonic() - began))
        primary.kill()
        until(lambda: raw.role()[0] == b"master", within=30)
        primary.start()
        started = time.monotonic()

        def goes_on() -> bool:
            return flood.acknowledged[-1][1] > started

        until(goes_on, within=20)
        tally.found_s.append(min(at for _, at in flood.acknowledged if at > started) - started)
    inspector = Inspector(shard.scripts)
    ids = [id for id, _ in flood.acknowledged]
    known = {status.id for status in inspector.find_many(ids)}
    tally.kills += 1
    tally.acknowledged += len(ids)
    tally.refused += flood.refused
    tally.lost += sorted(set(ids) - known)
    problems = list(audit(inspector))
    assert not problems, problems[:5]
    with replica.client() as raw:
        raw.flushall()


def kill_many(system: ClusterSystem, *, kills: int, rate: int) -> Tally:
    """Kill primaries, one after the other; the settings come from the environment."""
    tally = Tally()
    for _ in range(kills):
        kill_once(system, rate, tally)
    return tally


@click.command()
@click.option("--kills", default=100, show_default=True)
@click.option("--rate", default=1_000, show_default=True)
@click.option("--wait-for", default="aof+replica", show_default=True)
@click.option("--fsync", default="always", show_default=True)
def main(kills: int, rate: int, wait_for: str, fsync: str) -> None:
    """Print how many acknowledged callbacks were lost; exits 1 if there were any."""
    with cluster("--appendfsync", fsync) as system:
        os.environ |= {"REDIS_URL": system.url, "CALLBACKS_WAIT_FOR": wait_for}
        tally = Tally()
        for _ in range(kills):
            kill_once(system, rate, tally)
            click.echo(_told(tally))
    raise SystemExit(bool(tally.lost))


def _told(tally: Tally) -> str:
    worst = sorted(tally.found_s)
    return (
        f"{tally.kills} kills at {min(tally.rates):,.0f} to {max(tally.rates):,.0f} a second,"
        f" {tally.acknowledged:,} acknowledged, {len(tally.lost)} lost,"
        f" {tally.refused:,} refused; once there is a replica it goes on after"
        f" {worst[len(worst) // 2]:.2f} s,"
        f" {worst[-1]:.2f} at worst"
    )


if __name__ == "__main__":
    main()
