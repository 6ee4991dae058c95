"""Many dead letters: listed and replayed page by page, while Redis stays free for others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable

from callbacks.cli.letters import STEP
from tests.process.conftest import System
from tests.support.processes import until
from tests.support.target import Target

Enqueue = Callable[..., None]
MANY = 20_000


def command(system: System, *words: str) -> str:
    env = system.groups.env | {"PATH": os.environ["PATH"]}
    line = [sys.executable, "-m", "callbacks", *words]
    done = subprocess.run(line, env=env, capture_output=True, text=True, check=True, timeout=50)
    return done.stdout


def test_many_dead_letters_are_replayed_in_short_steps(system: System, enqueue: Enqueue) -> None:
    client = system.batcher.scripts.client
    enqueue("https://customer.example/x", MANY, expires_in=0.001)
    dead = 0
    while dead < MANY:
        dead += system.batcher.expire(100)
    assert len(json.loads(command(system, "dead", "show", "--all", "--json"))) == MANY
    client.config_set("slowlog-max-len", 2 * MANY)
    client.config_set("slowlog-log-slower-than", 1_000)
    assert command(system, "dead", "replay", "--all") == "20,000 dead letters replayed\n"
    slow = [entry for entry in client.slowlog_get(2 * MANY) if b"lane:" in entry["command"]]
    # On a busy machine any command takes 5 ms now and then, one that is too long does always.
    too_long = [entry["duration"] for entry in slow if entry["duration"] > 5_000]
    assert len(too_long) < MANY // STEP / 2, too_long
    now = system.overview()
    assert (now.queued, now.dead, now.totals["replayed"]) == (MANY, 0, MANY)


def test_what_is_replayed_goes_out_at_its_pace_with_its_id(
    system: System, enqueue: Enqueue
) -> None:
    system.configure(max_delay=0.2, check_interval=0.5, send_interval=0.02, max_retries=0)
    healthy: list[bool] = []
    with Target(lambda hit, nth: 200 if healthy else 500) as target:
        system.configure(destination_interval=0.05, breaker_failures=0)
        system.groups.worker()
        enqueue(target.url, 30)
        until(lambda: system.overview().dead == 30, within=30)
        first = len(target.hits)
        healthy.append(True)
        command(system, "dead", "replay", "--all")
        until(lambda: system.overview().totals["sent"] == 30, within=30)
        hits = target.hits[first:]
    assert {hit.id for hit in hits} == {f"c-{n}" for n in range(30)}
    assert {hit.attempt for hit in hits} == {2}
    times = sorted(hit.at for hit in hits)
    assert times[-1] - times[0] >= 29 * 0.05 - 0.1
    assert system.audit() == []
