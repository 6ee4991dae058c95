"""A shard's primary is away, and its replica too: who is told what, and what happens afterwards."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

import callbacks
from callbacks import admin
from callbacks.batcher.keys import shard_tags, slot_of
from tests.process.faults import Note, busy_s
from tests.process.test_shards import lanes
from tests.process.test_topologies import Whole, running
from tests.support.processes import load, until
from tests.support.server import Server
from tests.support.target import Target
from tests.support.topologies import ClusterSystem, cluster

SHARDS = 16
TIMEOUT_S = 1
COMMANDS = (
    "status",
    "status --json",
    "list queued",
    "dead show",
    "destinations",
    "audit",
    "doctor",
    "flush",
    "pause",
    "resume",
)


class Away:
    """A primary that has nothing but shards, and its replica; `shards` are theirs."""

    def __init__(self, topology: ClusterSystem, how: str) -> None:
        home = topology.owner(slot_of("callbacks"))
        self.primary = next(one for one in topology.servers[:3] if one is not home)
        tags = shard_tags("callbacks", SHARDS)
        owners = [topology.owner(slot_of(tag)) for tag in tags]
        self.shards = {n for n, owner in enumerate(owners) if owner is self.primary}
        self._servers: list[Server] = [self.primary, topology.replica_of(self.primary)]
        self._topology, self._how = topology, how

    @contextmanager
    def gone(self) -> Iterator[None]:
        for server in self._servers:
            server.kill() if self._how == "killed" else server.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for server in self._servers:
                if self._how == "killed":
                    server.start(ready=False)
                else:
                    server.signal(signal.SIGCONT)

    @property
    def names(self) -> str:
        """How those that are away are named."""
        numbers = ", ".join(map(str, sorted(self.shards)))
        return f"shards {numbers} of {SHARDS}"


@pytest.mark.long
@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_everybody_is_told_which_shards_or_primary_are_away(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Note
) -> None:
    with (
        cluster() as topology,
        Target() as target,
        running(topology, tmp_path, monkeypatch, redis_timeout=TIMEOUT_S) as system,
    ):
        away = Away(topology, how)
        every = [*lanes(target, away.shards, among=True), *lanes(target, away.shards, among=False)]
        for lane in every:
            callbacks.enqueue(target.url, 0, lane=lane)
        web = system.groups.web()
        until(lambda: "listening on" in web.output, within=20)
        assert get(web.output, "/healthz")[0] == 200
        with away.gone():
            until(lambda: is_away(system), within=20)
            for words in COMMANDS:
                took_s = refuses(system, away, words)
                record_property(f"s for {words}", round(took_s, 1))
            for path in ("/healthz", "/"):
                status, text = get(web.output, path)
                assert (status, away.names in text) == (503, True), text
            assert json.loads(get(web.output, "/healthz")[1])["health"] == "no redis"
            enqueues(target, away)
        until(topology.ready, within=60)
        until(lambda: get(web.output, "/healthz")[0] == 200, within=10)
        # A server that was stopped executes what was sent to it meanwhile.
        assert admin.status().totals["accepted"] in range(len(every) + 1, len(every) + 4)
        assert system.audit() == []


def is_away(system: Whole) -> bool:
    return any(word is None for word in system.shards.words())


def refuses(system: Whole, away: Away, words: str) -> float:
    """Check what a command says; returns how long it took."""
    env = system.groups.env | {"PATH": os.environ["PATH"]}
    line = [sys.executable, "-m", "callbacks", *words.split()]
    began = time.monotonic()
    done = subprocess.run(line, env=env, capture_output=True, text=True, timeout=100, check=False)
    took_s = time.monotonic() - began
    told = done.stdout if words == "doctor" else done.stderr
    assert done.returncode == 1, (words, done)
    assert done.stderr.count("\n") == 1, (words, done.stderr)
    where = f"127.0.0.1:{away.primary.port}"
    assert away.names in told or re.search(rf"(?<!,){where}(?!,)", told), (words, told)
    assert "health         ok" not in done.stdout
    # Twice: a pause finds out who is away, and the primary may vanish meanwhile.
    assert took_s < 2 * TIMEOUT_S + 2 + 2 * load() + busy_s(), (words, took_s)
    return took_s


def enqueues(target: Target, away: Away) -> None:
    """Check that only what is for the shards that are away is refused, with its id."""
    there = lanes(target, away.shards, among=False)[0]
    here = lanes(target, away.shards, among=True)[0]
    assert callbacks.enqueue(target.url, 0, lane=there).accepted
    for id in (None, "a-1"):
        began = time.monotonic()
        with pytest.raises((redis.ConnectionError, redis.TimeoutError)) as raised:
            callbacks.enqueue(target.url, 0, lane=here, id=id)
        found: str = raised.value.callback_id  # type: ignore[union-attr]
        assert found == id if id else shard_of_minted(found) in away.shards
        assert time.monotonic() - began < 4 * TIMEOUT_S + busy_s()


def shard_of_minted(id: str) -> int:
    return int(id.rpartition(".")[2], 16)


def get(output: str, path: str) -> tuple[int, str]:
    """The status and the text of a page of `callbacks web`."""
    found = re.search(r"http://[\w.\[\]:]+:(\d+)", output)
    assert found, output
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{found[1]}{path}", timeout=30) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.parametrize("how", [pytest.param("stopped", marks=pytest.mark.long), "killed"])
def test_a_shard_that_was_away_while_all_was_paused_and_resumed_follows(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Note
) -> None:
    with (
        cluster("--appendfsync", "always") as topology,
        Target() as target,
        running(topology, tmp_path, monkeypatch, redis_timeout=TIMEOUT_S) as system,
    ):
        away = Away(topology, how)
        there = lanes(target, away.shards, among=True)[:20]
        others = lanes(target, away.shards, among=False)[:20]
        workers = system.groups.worker()
        ids = {
            lane: callbacks.enqueue(target.url, 0, lane=lane, delay=5).id
            for lane in (*there, *others)
        }
        with away.gone():
            until(lambda: is_away(system), within=20)
            with pytest.raises(redis.ConnectionError, match=away.names):
                admin.pause()
            until(lambda: is_due(system, others), within=20)
        until(topology.ready, within=60)
        back = time.monotonic()
        until(lambda: all(word and word.paused for word in system.shards.words()), within=10)
        record_property("s until the pause was handed on", round(time.monotonic() - back, 1))
        time.sleep(2)
        assert target.hits == []
        with away.gone():
            until(lambda: is_away(system), within=20)
            with pytest.raises(redis.ConnectionError, match=away.names):
                admin.resume()
            until(lambda: {ids[lane] for lane in others} <= set(target.counts()), within=30)
            assert set(target.counts()).isdisjoint(ids[lane] for lane in there)
        until(topology.ready, within=60)
        back = time.monotonic()
        until(lambda: set(ids.values()) == set(target.counts()), within=30)
        record_property("s until the resume was handed on", round(time.monotonic() - back, 1))
        until(system.settled, within=30)
        # Servers that wake up together may have a failover, which may take an outcome back.
        assert {target.counts()[ids[lane]] for lane in others} == {1}
        assert max(target.counts().values()) <= 2
        assert system.audit() == []
        assert "event=pause_handed_on" in workers.output
        assert workers.process.poll() is None


def is_due(system: Whole, names: list[str]) -> bool:
    """Whether what waits in the shards that can be reached is due."""
    answers = system.shards.scripts.home.run_across(
        "look", ((one, {}) for one in system.shards.scripts.shards)
    )
    looks = [answer for answer in answers if not isinstance(answer, Exception)]
    return sum(look[2] for look in looks) >= len(names)
