"""A callback that kills its process must end alone, without taking its neighbours along."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

import callbacks
from callbacks.batcher.inspector import find
from callbacks.batcher.listing import Filter, statuses
from callbacks.model import State
from tests.process.conftest import System
from tests.process.faults import OPEN, Enqueue, Note, module
from tests.support.processes import until
from tests.support.target import Hit, Response, Target

# The resolver of secrets runs in the process that is about to send.
_DEADLY = """import os, signal, time

def resolve(url, environment):
    if "/poison" in url:
        time.sleep(0.7)  # until those that were claimed with it are in flight, too
        with open({kills!r}, "a") as file:
            print(time.monotonic(), file=file, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    return ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]

# So short that some bystanders meet the culprits again, as requests that take long would.
from callbacks.batcher import store as batcher
batcher.CRASH_SPREAD_MS = (800, 4000)
"""
POISONS = 2
REQUEST_S = 1.5


class Supervisor:
    """Starts a group of workers again whenever it has ended, as a platform does.

    In turn one with threads and one with greenlets.
    """

    def __init__(self, system: System, modules: list[str], **env: object) -> None:
        self._system, self._modules, self._env = system, modules, env
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.starts = 0

    def _run(self) -> None:
        while not self._stop.is_set():
            kind = "greenlets" if self.starts % 2 else "threads"
            group = self._system.groups.worker(
                kind=kind, threads=64, modules=self._modules, **self._env
            )
            self.starts += 1
            while group.process.poll() is None and not self._stop.wait(0.1):
                pass

    def __enter__(self) -> Supervisor:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()


def in_flight(target: Target, at: float) -> int:
    """How many requests the receiver had not answered at an instant (monotonic)."""
    return sum(hit.at_s <= at < hit.at_s + takes_s(hit.attempt) for hit in target.hits)


def takes_s(attempt: int) -> float:
    """Last tries are made alone, one after another, so they are answered soon."""
    return REQUEST_S if attempt <= 2 else 0.1


class Feed:
    """Keeps this many bystanders waiting or in flight: enqueues their successors as they arrive.

    Requests of a dead process are not in flight, so the receiver counts.
    """

    def __init__(self, system: System, enqueue: Enqueue, target: Target, wanted: int) -> None:
        self._system, self._enqueue, self._target, self._wanted = system, enqueue, target, wanted
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.count = 0

    def _run(self) -> None:
        while not self._stop.wait(0.25):
            flying = in_flight(self._target, time.monotonic())
            lacking = self._wanted - self._system.overview().queued - flying
            if lacking > 0:
                self._enqueue(self._target.url, lacking, start=self.count)
                self.count += lacking

    def __enter__(self) -> Feed:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()


@pytest.mark.timeout(400)
def test_a_callback_that_kills_its_process_dies_alone_after_three_crashes(
    system: System, enqueue: Enqueue, tmp_path: Path, record_property: Note
) -> None:
    system.configure(**OPEN | {"max_delay": 1}, deadline=2)
    kills = tmp_path / "kills"
    deadly = module(tmp_path, "deadly", _DEADLY.format(kills=str(kills)))
    resolver = {"CALLBACKS_SECRET_RESOLVER": f"{deadly}:resolve"}

    def slowly(hit: Hit, nth: int) -> Response:
        return Response(delay_s=takes_s(hit.attempt))

    def poisons_dead() -> bool:
        return system.overview().dead == POISONS and all(map(is_dead, range(POISONS)))

    def is_dead(n: int) -> bool:
        status = find(system.batcher.scripts, f"poison-{n}")
        return status is not None and status.state is State.DEAD

    with Target(slowly) as target, Supervisor(system, [deadly], **resolver) as supervisor:
        with Feed(system, enqueue, target, 150) as feed:
            until(lambda: len(target.hits) >= 100, within=40)
            for n in range(POISONS):
                url = target.url.replace("/hook", "/poison")
                callbacks.enqueue(url, n, id=f"poison-{n}")
            started = time.monotonic()
            until(poisons_dead, within=200)
            record_property("s until the poison is dead", round(time.monotonic() - started))
        until(system.settled, within=150)  # one that crashed twice goes alone
        record_property("s until the last", round(time.monotonic() - started))
    dead = list(statuses(system.inspector, Filter(State.DEAD)))
    sent = list(statuses(system.inspector, Filter(State.SENT)))
    record_property("starts", supervisor.starts)
    record_property("bystanders", feed.count)
    crashes = {n: sum(s.crashes == n for s in sent) for n in (1, 2, 3)}
    record_property("crashes of bystanders", crashes)
    record_property("dead bystanders", len(dead) - POISONS)
    beside = [in_flight(target, float(at)) for at in kills.read_text().split()]
    record_property("requests in flight at each kill", beside)
    assert len(beside) >= 3
    assert max(beside) >= 80, "the poison was never among a hundred"
    assert sum(crashes.values()) >= 30, "nobody was hit beside the poison"
    assert {(s.id, s.reason, s.crashes, s.attempts) for s in dead} == {
        (f"poison-{n}", "crashed", 3, 3) for n in range(POISONS)
    }
    assert set(target.counts()) == {f"c-{n}" for n in range(feed.count)}
    assert max(target.counts().values()) <= 1 + 2
    totals = system.overview().totals
    assert totals["accepted"] == feed.count + POISONS == totals["sent"] + totals["dead"]
    assert system.audit() == []
