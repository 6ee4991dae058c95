"""Real workers over several shards: on one Redis, and on a cluster of three primaries."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

import callbacks
from callbacks.batcher.keys import shard_tags, slot_of
from callbacks.batcher.routes import shard_of
from tests.conftest import forget_runtime
from tests.process.conftest import SETTINGS, System
from tests.process.faults import OPEN, command, instants
from tests.process.test_topologies import running
from tests.support.processes import Groups, clean_environment, refusals, until
from tests.support.server import Server, binaries
from tests.support.target import Target
from tests.support.topologies import cluster

COUNT = 90
LANES = 30
STAGGER_MS = 20


def fill(url: str, *, start: int = 0, count: int = COUNT) -> list[str]:
    """Callbacks for many destinations; every other one has an id of the caller's own."""
    items = [
        {"callback_url": url, "data": n, "lane": f"l-{n % LANES}", "id": f"c-{n}"}
        for n in range(start, start + count)
    ]
    return [receipt.id for receipt in callbacks.enqueue_many(items) if receipt.accepted]


def test_all_shards_together_keep_the_stagger_and_lose_nothing(
    system: System, enqueue: Callable[..., None], recovered: Callable[..., None]
) -> None:
    system.configure(shards=4, **OPEN | {"send_interval": STAGGER_MS / 1_000})
    with Target() as target:
        enqueue(target.url, 1)  # reads the settings; the first process decides the number
        ids = ["c-0", *fill(target.url, start=1, count=COUNT - 1)]
        since = time.monotonic()
        system.groups.worker(processes=2)
        recovered(target, ids, since=since)
    first, *_, last = instants(system, COUNT)
    assert last - first >= 0.9 * (COUNT - 1) * STAGGER_MS  # four shards alone take a quarter
    wrong = system.groups.worker(processes=1, CALLBACKS_SHARDS=3)
    assert wrong.wait(30) == 1
    (line,) = refusals(wrong.output)
    assert "CALLBACKS_SHARDS is 3, but the data in Redis are in 4 shards" in line


def test_a_primary_that_is_away_with_its_replica_stops_its_own_shards_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        cluster() as topology,
        Target() as target,
        running(topology, tmp_path, monkeypatch, redis_timeout=1) as system,
    ):
        assert system.settings.shards == 16
        home = topology.owner(slot_of("callbacks"))
        away = next(s for s in topology.servers[:3] if s is not home)
        tags = shard_tags("callbacks", 16)
        dead = {n for n, tag in enumerate(tags) if topology.owner(slot_of(tag)) is away}
        system.groups.worker(processes=2)
        ids = fill(target.url)
        until(lambda: len(target.counts()) == COUNT, within=60)
        stopped = [away.process, topology.replica_of(away).process]
        for process in stopped:
            assert process
            os.kill(process.pid, signal.SIGSTOP)
        try:
            ids += others(target, dead)
            until(lambda: set(ids) <= set(target.counts()), within=60)
            with pytest.raises((redis.ConnectionError, redis.TimeoutError)):
                callbacks.enqueue(target.url, 0, lane=lanes(target, dead, among=True)[0])
        finally:
            for process in stopped:
                assert process
                os.kill(process.pid, signal.SIGCONT)
        until(topology.ready, within=60)
        ids += fill(target.url, start=2 * COUNT)
        until(lambda: set(ids) <= set(target.counts()), within=90)
        until(system.settled, within=60)
        assert system.audit() == []


def test_a_move_to_more_shards_delivers_everything_while_both_run(
    system: System, enqueue: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system.configure(**OPEN | {"send_interval": STAGGER_MS / 1_000})
    new_server = Server(binaries()["valkey"]).start()
    new = System(new_server, Groups(clean_environment(**SETTINGS), tmp_path / "new"))
    (tmp_path / "new").mkdir()
    try:
        with Target() as target, new.groups:
            enqueue(target.url, COUNT)
            system.groups.worker(processes=1)
            new.configure(shards=4, **OPEN)
            new.groups.worker(processes=1)
            until(lambda: bool(target.counts()), within=30)  # the old one is at it
            monkeypatch.setenv("REDIS_URL", new_server.url)
            monkeypatch.setenv("CALLBACKS_SHARDS", "4")
            forget_runtime()()
            ids = fill(target.url, start=COUNT)
            assert len(ids) == COUNT
            until(lambda: is_empty(system), within=60)
            until(lambda: len(target.counts()) == 2 * COUNT, within=60)
            until(new.settled, within=30)
            assert (system.audit(), new.audit()) == ([], [])
            assert set(target.counts().values()) == {1}
    finally:
        new.close()
        new_server.stop()


def is_empty(system: System) -> bool:
    """What the recipe in docs/scaling.md looks at."""
    shown = json.loads(command(system, "status", "--json"))
    return (shown["queued"], shown["processing"]) == (0, 0)


def others(target: Target, dead: set[int]) -> list[str]:
    """Callbacks of the shards that can be reached, with minted ids."""
    names = lanes(target, dead, among=False)
    return [callbacks.enqueue(target.url, 0, lane=name).id for name in names]


def lanes(target: Target, shards: set[int], *, among: bool) -> list[str]:
    """Lanes of the receiver that are in these shards, or in the others."""
    origin, names = target.url.rpartition("/")[0], [f"x-{n}" for n in range(3 * LANES)]
    return [name for name in names if (shard_of(f"{origin}#{name}", 16) in shards) == among]
