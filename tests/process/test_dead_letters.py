"""Many dead letters: listed, replayed and purged page by page, while Redis is free for others."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import redis

from callbacks.cli.letters import STEP
from tests.process.conftest import System
from tests.process.faults import Enqueue, Note, command
from tests.support.processes import until
from tests.support.target import Target

MANY = 100_000
LONG_US = 5_000
#: Even on a busy machine no script may take that long.
FAR_TOO_LONG_US = 200_000


class Scripts(NamedTuple):
    """What a command for so many letters did: scripts, those over 5 ms, Redis' processor time."""

    letters: int
    calls: int
    slow: list[dict[str, Any]]
    cpu_s: float

    def longest_ms(self) -> float:
        return max((entry["duration"] for entry in self.slow), default=0) / 1_000

    def check(self) -> None:
        """Check that they were short.

        SLOWLOG measures by the clock: on a busy machine a script may wait for the processor in
        the middle. What Redis has worked does not depend on that.
        """
        steps = self.letters // STEP
        assert self.calls >= steps
        share = 0.01 + min(0.3, os.getloadavg()[0] / (os.cpu_count() or 1) / 25)
        assert len(self.slow) <= share * steps, f"{len(self.slow)} of {self.calls} took over 5 ms"
        assert self.cpu_s / steps < LONG_US / 1e6


def check_longest(*times: Scripts) -> None:
    """Check that no script is long each time: one that was long once waited for a processor."""
    longest = [each.longest_ms() for each in times]
    assert min(longest) * 1_000 < FAR_TOO_LONG_US, longest


def scripts_of(system: System, act: Callable[[], object], *, letters: int) -> Scripts:
    """Have something done with so many letters, and tell what it did in scripts."""
    client = system.batcher.scripts.client
    client.config_set("slowlog-max-len", 2 * MANY)
    client.config_set("slowlog-log-slower-than", LONG_US)
    client.config_resetstat()
    client.slowlog_reset()
    worked_s = cpu_s(client)
    act()
    worked_s = cpu_s(client) - worked_s
    stats = client.info("commandstats")
    calls = sum(stats[name]["calls"] for name in stats if name.startswith("cmdstat_eval"))
    slow = client.slowlog_get(2 * MANY)
    slow = [each for each in slow if each["command"].startswith(b"EVAL")]
    return Scripts(letters, calls, slow, worked_s)


def cpu_s(client: redis.Redis) -> float:
    """What the thread that runs scripts has worked so far."""
    used = client.info("cpu")
    return float(used["used_cpu_user_main_thread"]) + float(used["used_cpu_sys_main_thread"])


def on_a_terminal(system: System, *words: str) -> str:
    """Run a command whose stderr is a terminal; what that showed."""
    ours, theirs = pty.openpty()
    shown: list[bytes] = []

    def read() -> None:
        try:
            while data := os.read(ours, 65_536):
                shown.append(data)
        except OSError:
            return  # on Linux the end of a terminal is an error

    reader = threading.Thread(target=read)
    reader.start()
    env = system.groups.env | {"PATH": os.environ["PATH"], "TERM": "xterm", "COLUMNS": "100"}
    line = [sys.executable, "-m", "callbacks", *words]
    try:
        subprocess.run(
            line, env=env, stdout=subprocess.PIPE, stderr=theirs, check=True, timeout=100
        )
    finally:
        os.close(theirs)
        reader.join()
        os.close(ours)
    return b"".join(shown).decode()


def die(system: System) -> None:
    """End what is past its age."""
    while system.batcher.expire(100):
        pass


@pytest.mark.timeout(300)
def test_a_hundred_thousand_dead_letters_are_listed_replayed_and_purged_in_short_scripts(
    system: System, enqueue: Enqueue, record_property: Note
) -> None:
    system.configure(max_age=0.05)  # so that what is replayed dies again
    enqueue("https://customer.example/x", MANY)
    die(system)
    half = MANY // 2
    said: list[str] = []

    def run(*words: str, letters: int = half) -> Scripts:
        return scripts_of(system, lambda: said.append(command(system, *words)), letters=letters)

    def watch(*words: str) -> Scripts:
        return scripts_of(system, lambda: said.append(on_a_terminal(system, *words)), letters=half)

    seen = {}
    seen["list"] = (
        run("list", "dead", "--limit", str(half), "--json"),
        run("list", "dead", "--limit", str(MANY), "--json", letters=MANY),
    )
    assert {row["id"] for row in json.loads(said.pop())} == {f"c-{n}" for n in range(MANY)}
    assert len(json.loads(said.pop())) == half
    seen["replay"] = (
        watch("dead", "replay", "--all", "--limit", str(half)),
        watch("dead", "replay", "--all"),
    )
    for bar in (said.pop(), said.pop()):
        assert "replayed" in bar
        assert f"{half}/{half}" in bar
    now = system.overview()
    assert (now.queued, now.dead, now.totals["replayed"]) == (MANY, 0, MANY)
    die(system)
    assert json.loads(command(system, "dead", "show", "--limit", "3", "--json"))
    seen["purge"] = (
        run("dead", "purge", "--all", "--limit", str(half)),
        run("dead", "purge", "--all"),
    )
    assert said == ["50,000 dead letters purged\n"] * 2
    assert (system.overview().dead, system.overview().totals["purged"]) == (0, MANY)
    for name, twice in seen.items():
        for did in twice:
            figures = (did.calls, len(did.slow), did.longest_ms(), did.cpu_s)
            record_property(f"{name}: calls, over 5 ms, longest ms, CPU s", figures)
            did.check()
        check_longest(*twice)


def test_what_is_replayed_goes_out_at_its_pace_with_its_id(
    system: System, enqueue: Enqueue
) -> None:
    system.configure(max_delay=0.2, check_interval=0.5, min_interval=0.05, send_interval=0.02)
    healthy: list[bool] = []
    with Target(lambda hit, nth: 200 if healthy else 500) as target:
        more = {"destination_concurrency": 0, "breaker_failures": 0, "max_retries": 0}
        system.configure(destination_interval=0.05, **more)
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
