"""What `doctor` sees of real processes, and what workers log about an evicting Redis."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from tests.process.conftest import System
from tests.support.processes import REPO, until


def examine(system: System) -> dict[str, dict[str, Any]]:
    """Run the command as an operator does; return its checks by name."""
    run = subprocess.run(
        [sys.executable, "-m", "callbacks", "doctor", "--json"],
        env=system.groups.env,
        cwd=REPO,
        capture_output=True,
        check=False,
        timeout=50,
    )
    return {check["name"]: check for check in json.loads(run.stdout)}


def verdicts(system: System, *names: str) -> list[str]:
    checks = examine(system)
    return [checks[name]["verdict"] for name in names]


def test_the_doctor_sees_workers_and_scheduler_come_and_go(system: System) -> None:
    system.configure()
    client = system.batcher.scripts.client
    names = ("workers", "scheduler", "eviction")
    assert verdicts(system, *names) == ["warning", "warning", "ok"]
    workers = system.groups.worker()
    system.groups.scheduler()
    until(lambda: client.hexists("{callbacks}:state", "scheduled"), within=40)
    until(lambda: client.exists("{callbacks}:tick") == 1, within=20)
    until(lambda: client.zcard("callbacks:__heartbeats__") == 2, within=20)
    checks = examine(system)
    assert checks["workers"]["found"] == "2 processes at work, and one ticks every 3 s"
    assert checks["scheduler"]["verdict"] == "ok"
    assert "event=eviction" not in workers.output
    workers.kill()
    until(lambda: not client.exists("{callbacks}:tick"), within=10)
    assert verdicts(system, "workers") == ["warning"]


def test_workers_warn_of_a_policy_that_evicts_also_where_redis_comes_after_them(
    system: System,
) -> None:
    system.configure()
    system.server.kill()
    system.server.options += ("--maxmemory-policy", "allkeys-lru")
    worker = system.groups.worker(processes=1)
    until(lambda: "ready for action" in worker.output, within=20)
    assert "event=eviction" not in worker.output
    system.server.start()
    until(lambda: "event=eviction" in worker.output, within=20)
    (line,) = (line for line in worker.output.splitlines() if "event=eviction" in line)
    assert "level=warning" in line
    assert "allkeys-lru: at its memory limit" in line
    assert "redis-cli CONFIG SET maxmemory-policy noeviction" in line
    assert worker.process.poll() is None
