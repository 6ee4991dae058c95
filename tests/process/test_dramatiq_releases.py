"""The oldest supported Dramatiq, and an unknown one. All other tests use the newest."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import dramatiq
import pytest

from tests.process.conftest import System
from tests.process.faults import Enqueue
from tests.process.test_serving import refusal
from tests.support.processes import REPO, until
from tests.support.target import Target

OLDEST = "2.0.0"


def before(folder: Path) -> dict[str, str]:
    """The environment of a process that looks for Dramatiq in this folder first."""
    return {"PYTHONPATH": os.pathsep.join((str(folder), str(REPO)))}


def test_callbacks_are_sent_retried_and_paced_with_the_oldest_release(
    system: System, enqueue: Enqueue
) -> None:
    oldest = REPO / f".venv/dramatiq-{OLDEST}"
    assert (oldest / "dramatiq").is_dir(), "scripts/test installs it there"
    fast = {"max_delay": 0.2, "check_interval": 0.5, "send_interval": 0.02}
    system.configure(**fast, destination_interval=0, breaker_failures=0, retry_schedule="1")
    with Target(lambda hit, nth: 503 if hit.id == "c-9" and nth == 1 else 200) as target:
        workers = system.groups.worker(processes=1, **before(oldest))
        enqueue(target.url, 20)
        until(system.settled, within=50)
    assert f"Dramatiq '{OLDEST}' is booting up" in workers.output
    assert "Traceback" not in workers.output
    assert system.overview().totals["retried"] == 1
    assert len(target.counts()) == 20
    assert system.audit() == []


@pytest.mark.parametrize(
    ("file", "change", "told"),
    [
        ("brokers/redis.py", ("self.message_cache", "self.cached"), "_RedisConsumer.message_cache"),
        ("brokers/redis.py", ("class _RedisConsumer", "class _Other"), "_RedisConsumer"),
        ("brokers/redis.py", ("self.queues = ", "self.more = self.queues = "), "RedisBroker.more"),
        (
            "brokers/redis/dispatch.lua",
            ("local timestamp = ARGV[2]", "local timestamp = ARGV[9]"),
            "dispatch.lua's argument timestamp",
        ),
    ],
)
def test_a_release_with_other_private_parts_is_refused_when_a_worker_starts(
    system: System, tmp_path: Path, file: str, change: tuple[str, str], told: str
) -> None:
    mine = Path(dramatiq.__file__).parent
    changed = Path(shutil.copytree(mine, tmp_path / "other/dramatiq")) / file
    text = changed.read_text()
    assert change[0] in text
    changed.write_text(text.replace(*change))
    line = refusal(system.groups.dramatiq("callbacks", **before(tmp_path / "other")))
    assert line.startswith(f"callbacks: dramatiq {dramatiq.__version__} differs from ")
    assert told in line
