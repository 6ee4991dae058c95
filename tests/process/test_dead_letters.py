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

from callbacks.admin.dead import STEP
from tests.process.conftest import System
from tests.process.faults import Enqueue, Note, command
from tests.support.processes import load, until
from tests.support.server import cpu_s
from tests.support.target import Target

MANY = 20_000
LONG_US = 5_000
#: Scripts that change dead letters in a replay or purge of all.
STEPS = MANY // STEP


class Scripts(NamedTuple):
    """What a command did in scripts: the calls, those over 5 ms, and Redis' time for all."""

    calls: int
    slow: list[dict[str, Any]]
    cpu_s: float

    def longest_ms(self) -> float:
        return max((entry["duration"] for entry in self.slow), default=0) / 1_000

    def check(self) -> None:
        """Check that there were many, and that they were short.

        SLOWLOG measures wall-clock time, and any script may be preempted: so the longest one proves
        nothing. What counts is how many were long, and Redis' CPU time.
        """
        assert self.calls >= STEPS
        share = 0.01 + min(0.3, load() / 25)
        assert len(self.slow) <= share * self.calls, (
            f"{len(self.slow)} of {self.calls} took over 5 ms"
        )
        assert self.cpu_s / STEPS < LONG_US / 1e6


def scripts_of(system: System, act: Callable[[], object]) -> Scripts:
    """Do something, and return what it did in scripts."""
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
    return Scripts(calls, slow, worked_s)


def on_a_terminal(system: System, *words: str) -> str:
    """Run a command whose stderr is a terminal; return what that showed."""
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
    """Expire what is past its age."""
    while system.batcher.expire(100):
        pass


@pytest.mark.timeout(300)
@pytest.mark.long
def test_twenty_thousand_dead_letters_are_listed_replayed_and_purged_in_short_scripts(
    system: System, enqueue: Enqueue, record_property: Note
) -> None:
    system.configure(max_age=0.05)  # so that replayed ones die again
    enqueue("https://customer.example/x", MANY)
    die(system)
    said: list[str] = []

    def run(*words: str) -> Scripts:
        return scripts_of(system, lambda: said.append(command(system, *words)))

    seen = {"list": run("list", "dead", "--limit", str(MANY), "--json")}
    assert {row["id"] for row in json.loads(said.pop())} == {f"c-{n}" for n in range(MANY)}
    seen["replay"] = scripts_of(
        system, lambda: said.append(on_a_terminal(system, "dead", "replay", "--all"))
    )
    bar = said.pop()
    assert "replayed" in bar
    assert f"{MANY}/{MANY}" in bar
    now = system.overview()
    assert (now.queued, now.dead, now.totals["replayed"]) == (MANY, 0, MANY)
    die(system)
    assert json.loads(command(system, "dead", "show", "--limit", "3", "--json"))
    seen["purge"] = run("dead", "purge", "--all")
    assert said == [f"{MANY:,} dead letters purged\n"]
    assert (system.overview().dead, system.overview().totals["purged"]) == (0, MANY)
    for name, did in seen.items():
        figures = (did.calls, len(did.slow), did.longest_ms(), 1000 * did.cpu_s / STEPS)
        record_property(f"{name}: calls, over 5 ms, longest ms, CPU ms a step", figures)
        did.check()


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
    times = sorted(hit.at_s for hit in hits)
    assert times[-1] - times[0] >= 29 * 0.05 - 0.1
    assert system.audit() == []
