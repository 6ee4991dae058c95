"""How even the load is over the primaries of a cluster, measured on real servers and workers.

`python -m tests.scale.primaries` enqueues callbacks for many destinations, has real workers send
them, and prints what part of the CPU of all primaries each has used; exits 1 if the busiest used
more than `MOST`. What belongs to no shard, Dramatiq's queue and the stagger over all, is on one.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import click

import callbacks
from callbacks.batcher.inspector import overview
from callbacks.batcher.keys import shard_tags, slot_of
from callbacks.runtime import runtime
from tests.support.processes import Groups, clean_environment
from tests.support.server import Server, cpu_s
from tests.support.target import Target
from tests.support.topologies import ClusterSystem, Move, cluster

MOST: Final = 0.32
_SETTINGS: Final = {
    "CALLBACKS_ALLOWED_NETWORKS": "127.0.0.0/8",
    "CALLBACKS_ADAPTIVE": "false",
    "CALLBACKS_DESTINATION_INTERVAL": "0",
    "CALLBACKS_DESTINATION_CONCURRENCY": "0",
    "CALLBACKS_UNPROVEN_SHARE": "1",
}
#: Callbacks before the measurement: scripts and connections are known then.
_WARM: Final = 500


def used(primaries: list[Server]) -> list[float]:
    """CPU seconds of the thread of each that runs commands."""
    found = []
    for server in primaries:
        with server.client() as raw:
            found.append(cpu_s(raw))
    return found


def send(url: str, destinations: int, count: int) -> None:
    """Enqueue in bulk, and wait until all is sent."""
    lanes = (f"l-{n % destinations}" for n in range(count))
    callbacks.enqueue_many({"callback_url": url, "data": 1, "lane": lane} for lane in lanes)

    def done() -> bool:
        now = overview(runtime().batcher.scripts)
        return now.queued == now.processing == 0

    while not done():
        time.sleep(0.5)


def told(primaries: list[Server], system: ClusterSystem, shards: int, cost: list[float]) -> float:
    """Print each primary's part; return the largest."""
    owners = [system.owner(slot_of(tag)) for tag in shard_tags("callbacks", shards)]
    home = system.owner(slot_of("callbacks"))
    for server, spent in zip(primaries, cost, strict=True):
        what = f"{owners.count(server)} shards" + (", and what belongs to none" * (server is home))
        click.echo(f"  {spent / sum(cost):.3f}  {spent:6.2f} s  {what}")
    return max(cost) / sum(cost)


def lighten(system: ClusterSystem, primaries: list[Server], shards: int) -> None:
    """Move one shard off the primary that has what belongs to none, as docs/scaling.md says."""
    home = system.owner(slot_of("callbacks"))
    slots = [slot_of(tag) for tag in shard_tags("callbacks", shards)]
    moved = next(slot for slot in slots if system.owner(slot) is home)
    Move(system, moved, next(server for server in primaries if server is not home)).run()


@click.command()
@click.option("--count", default=6_000, show_default=True)
@click.option("--destinations", default=500, show_default=True)
@click.option("--primaries", "many", default=4, show_default=True)
@click.option("--shards", default=16, show_default=True)
@click.option("--send-interval", default=0.0, show_default=True, help="The stagger, in seconds.")
@click.option("--runs", default=1, show_default=True)
@click.option("--light", is_flag=True, help="With one shard less where Dramatiq's queue is.")
def main(  # noqa: PLR0917 - its options
    count: int,
    destinations: int,
    many: int,
    shards: int,
    send_interval: float,
    runs: int,
    light: bool,
) -> None:
    """Print each primary's part of the CPU of all; exits 1 if the busiest has too much."""
    folder = Path(tempfile.mkdtemp(prefix="callbacks-primaries-"))
    with cluster(primaries=many) as system, Target() as target:
        primaries = system.servers[:many]
        more = {"REDIS_URL": system.url, "CALLBACKS_SHARDS": str(shards)}
        environ = _SETTINGS | more | {"CALLBACKS_SEND_INTERVAL": str(send_interval)}
        os.environ.update(environ)
        if light:
            lighten(system, primaries, shards)
        with Groups(clean_environment(**environ), folder) as groups:
            groups.worker(processes=2, threads=32)
            send(target.url, destinations, _WARM)
            parts = []
            for _ in range(runs):
                before, began = used(primaries), time.monotonic()
                send(target.url, destinations, count)
                took_s = time.monotonic() - began
                cost = [now - was for now, was in zip(used(primaries), before, strict=True)]
                click.echo(
                    f"{count} callbacks, {destinations} destinations, {shards} shards, stagger"
                    f" {send_interval:g} s, {count / took_s:,.0f} a second;"
                    f" {sum(cost) / count * 1e6:,.0f} us of Redis each"
                )
                parts.append(told(primaries, system, shards, cost))
    sys.exit(1 if sorted(parts)[len(parts) // 2] > MOST else 0)


if __name__ == "__main__":
    main()
