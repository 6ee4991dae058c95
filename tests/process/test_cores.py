"""Worker processes that are each kept on one core, and those that are not."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.process.conftest import System
from tests.process.faults import Enqueue
from tests.support.processes import Group, until
from tests.support.target import Target

if sys.platform != "linux":
    pytest.skip("only Linux can keep a process on a core", allow_module_level=True)


def cores_of(worker: Group) -> list[set[frozenset[int]]]:
    """For each worker process the cores that its threads may use."""
    task = Path(f"/proc/{worker.process.pid}/task/{worker.process.pid}")
    return [
        {
            frozenset(os.sched_getaffinity(int(thread.name)))
            for thread in Path(f"/proc/{child}/task").iterdir()
        }
        for child in (task / "children").read_text().split()
    ]


def booted(worker: Group, processes: int) -> bool:
    return worker.output.count("ready for action") == processes


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one core for everything")
def test_each_worker_process_keeps_to_a_core_of_its_own_and_sends(
    system: System, enqueue: Enqueue
) -> None:
    system.configure(max_delay=0.2, send_interval=0.01, destination_interval=0, pin_cores=True)
    with Target() as target:
        worker = system.groups.worker(processes=2)
        enqueue(target.url, 20)
        until(system.settled, within=20)
        until(lambda: booted(worker, 2), within=10)
        found = cores_of(worker)
    assert [len(cores) for cores in found] == [1, 1]  # all threads of a process alike
    assert [len(core) for cores in found for core in cores] == [1, 1]
    assert found[0] != found[1]
    assert worker.output.count("event=core_pinned") == 2


@pytest.mark.parametrize(("kind", "more"), [("threads", 1), ("greenlets", 0)])
def test_too_many_processes_and_greenlets_keep_all_cores(
    system: System, kind: str, more: int
) -> None:
    usable = os.sched_getaffinity(0)
    system.configure(pin_cores=True)
    processes = len(usable) + more
    worker = system.groups.worker(processes=processes, threads=2, kind=kind)
    until(lambda: booted(worker, processes), within=20)
    assert cores_of(worker) == [{frozenset(usable)}] * processes
    assert worker.output.count("event=core_not_pinned") == processes
