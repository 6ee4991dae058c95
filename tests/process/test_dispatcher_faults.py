"""Dispatchers and schedulers that die, stop, or are too many."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest

from tests.process.conftest import System
from tests.process.faults import (
    OPEN,
    Enqueue,
    Note,
    balanced,
    busy_s,
    first_hits,
    instants,
    lateness,
    marked,
    minute_in,
    module,
    once,
    phases,
    ready,
    sooner,
)
from tests.support.again import Again
from tests.support.processes import clean_environment, until
from tests.support.target import Target

#: How long the lock of a dead dispatcher remains.
LOCK_S = 2
#: The shortest time between batches, when many compete for each.
MIN_S = 0.5
BATCH = re.compile(r"event=batch size=(\d+)")


@pytest.mark.parametrize("sent", [0, 10])
def test_what_a_killed_dispatcher_had_claimed_goes_out_in_seconds_without_its_messages(
    system: System, enqueue: Enqueue, tmp_path: Path, record_property: Note, sent: int
) -> None:
    system.configure(**OPEN | {"send_interval": 0.02}, deadline=1, batch_size=30)
    suicide = module(
        tmp_path,
        "suicide",
        once(tmp_path, "killed") + "from callbacks import runtime\n"
        "send = runtime.BrokerMessages.batch\n"
        "def batch(self, claimed):\n"
        f"    if len(claimed) >= 15 and first():\n"
        f"        send(self, claimed[:{sent}])\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    send(self, claimed)\n"
        "runtime.BrokerMessages.batch = batch\n",
    )
    with Target() as target:
        modules = [suicide, sooner(tmp_path)]
        ready(*(system.groups.worker(modules=modules) for _ in range(2)))
        enqueue(target.url, 60)
        until(lambda: marked(tmp_path, "killed") > 0, within=15)
        killed = time.monotonic()
        held = phases(system)
        until(system.settled, within=40)
        record_property("s until the last", round(time.monotonic() - killed, 1))
        balanced(system, target, 60, most=2)
    late = sorted(lateness(held["claimed"], first_hits(target), since=killed).values())
    record_property(
        "s from the slot, first and last of those claimed", [round(late[0], 1), round(late[-1], 1)]
    )
    assert len(late) > 5, "a busy machine looked too late to tell"
    assert late[5] <= 0.5 + 2 + busy_s()
    # All are woken together. Those whose instant is too far ahead go back to their lane, where
    # nothing claims them until the dead dispatcher's lock has expired.
    assert late[-1] <= LOCK_S + 2 + busy_s()
    # What it was sending itself had begun; nothing else may come twice.
    twice = {id for id, n in target.counts().items() if n > 1}
    assert len(twice) <= system.overview().totals["recovered"] <= sent


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_dispatcher_that_was_stopped_past_its_lock_claims_nothing_twice(
    system: System, enqueue: Enqueue, tmp_path: Path, record_property: Note, when: str
) -> None:
    system.configure(**OPEN | {"send_interval": 0.02}, batch_size=30)
    calls = ["batch = claim(self, *args, **more)", "stop()"]
    freeze = module(
        tmp_path,
        "freeze",
        once(tmp_path, "stopped") + "import time\n"
        "from callbacks.batcher import store as batcher\n"
        "claim = batcher.Batcher.claim\n"
        "def stop():\n"
        "    if first():\n"
        "        os.kill(os.getpid(), signal.SIGSTOP)\n"
        "        time.sleep(1)\n"  # this thread may go on until another one has taken the signal
        "def held(self, *args, **more):\n"
        + "".join(f"    {call}\n" for call in (calls if when == "after" else calls[::-1]))
        + "    return batch\n"
        "batcher.Batcher.claim = held\n",
    )
    with Target() as target:
        system.groups.worker(processes=1, modules=[freeze])
        enqueue(target.url, 90)
        until(lambda: marked(tmp_path, "stopped") > 0, within=15)
        stopped = time.monotonic()
        other = system.groups.worker()
        until(system.settled, within=40)
        record_property("s until the last", round(time.monotonic() - stopped, 1))
        assert time.monotonic() - stopped >= LOCK_S - 1, "the lock did not hold"
        sizes = sum(map(int, BATCH.findall(other.output)))
        awake = "result=lock_lost" if when == "before" else "event=batch size="
        seen = other.output.count(awake)
        os.kill(marked(tmp_path, "stopped"), signal.SIGCONT)
        until(lambda: other.output.count(awake) > seen, within=10)
        balanced(system, target, 90)
    totals = system.overview().totals
    assert (totals["attempts"], totals["recovered"]) == (90, 0)
    assert sizes >= 90 - 30 * (when == "after")


def test_three_schedulers_two_dispatchers_and_flushes_by_hand_claim_each_batch_once(
    system: System, enqueue: Enqueue, tmp_path: Path, record_property: Note
) -> None:
    system.configure(**OPEN | {"send_interval": 0.05, "min_interval": MIN_S, "max_delay": 2})
    minute = minute_in(tmp_path, 10)
    by_hand: list[int] = []
    done = threading.Event()

    def flush() -> None:
        env = clean_environment(**system.environ)
        command = [sys.executable, "-m", "callbacks", "flush", "--json"]
        while not done.wait(0.3):
            run = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
            by_hand.append(json.loads(run.stdout)["claimed"] if run.returncode == 0 else 0)

    claims: set[int] = set()

    def look() -> None:
        last = system.overview().last_batch_ms
        if last is not None:
            claims.add(last)

    with Target() as target, Again(look, every=MIN_S / 10):
        schedulers = [system.groups.scheduler(**minute) for _ in range(3)]
        other, workers = (system.groups.worker(threads=32) for _ in range(2))
        ready(other, workers)
        hand = threading.Thread(target=flush)
        hand.start()
        try:
            started = time.monotonic()
            for n in range(6):
                enqueue(target.url, 40, start=40 * n)
                until(lambda n=n: len(target.hits) >= 40 * (n + 1) - 20, within=20)
            until(system.settled, within=20)
            record_property("s for 240 that need 12", round(time.monotonic() - started, 1))
            until(lambda: schedulers[0].output.count("check_and_flush") >= 3, within=30)
        finally:
            done.set()
            hand.join()
        balanced(system, target, 240)
    batches = [int(size) for size in BATCH.findall(workers.output)]
    gaps = target.gaps_ms()
    record_property("batches", len(batches))
    record_property("claimed by hand", sum(by_hand))
    record_property("gaps ms, 5 %, 50 %", [round(gaps[len(gaps) * p // 100]) for p in (5, 50)])
    assert sum(batches) + sum(by_hand) >= 240
    apart = [later - earlier for earlier, later in pairwise(sorted(claims))]
    record_property("least ms from batch to batch", min(apart))
    claimed = len(batches) + sum(size > 0 for size in by_hand)
    assert claimed * 3 // 4 <= len(claims) <= claimed  # a busy machine may not see each of them
    assert min(apart) >= MIN_S * 1000
    assert system.overview().totals["attempts"] == 240
    # A sender that missed its instant on a busy machine goes late; twenty at once would be a batch
    # without its stagger.
    times = instants(system, 240)
    twenties = [y - x for x, y in zip(times, times[19:], strict=False)]
    record_property("least ms for twenty, ideally 950", min(twenties))
    assert min(twenties) >= 600


def test_flushes_go_on_without_a_scheduler_and_without_any_message_for_a_check(
    system: System, enqueue: Enqueue, tmp_path: Path, record_property: Note
) -> None:
    system.configure(**OPEN | {"max_delay": 2, "check_interval": 1})
    deaf = module(
        tmp_path,
        "deaf",
        "from callbacks import runtime\n"
        "runtime.BrokerMessages.check = lambda self, delay_ms: None\n",
    )
    waits = []
    with Target() as target:
        scheduler = system.groups.scheduler()
        ready(system.groups.worker(modules=[deaf]))
        scheduler.kill()
        for n in range(4):
            enqueue(target.url, 1, start=n)
            system.batcher.scripts.client.delete("callbacks:callbacks.DQ")
            handed_in = time.monotonic()
            until(lambda n=n: len(target.hits) > n, within=15)
            waits.append(target.hits[-1].at_s - handed_in)
        balanced(system, target, 4)
    record_property("s waited", [round(wait, 1) for wait in waits])
    assert max(waits) <= 2 + 1 + 1 + busy_s()
