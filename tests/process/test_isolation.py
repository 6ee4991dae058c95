"""One bad receiver harms no others, as measured at the receivers of real workers."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

import callbacks
from callbacks.batcher.inspector import find
from callbacks.batcher.listing import Filter, statuses
from callbacks.model import State
from tests.process.conftest import System
from tests.process.faults import BOTH_KINDS, Enqueue, Note, busy_s, instants, module, too_close
from tests.support.hanging import PLACES, Hanging
from tests.support.processes import REPO, until
from tests.support.target import Hit, Target


@pytest.fixture
def hand_in(system: System, enqueue: Enqueue) -> Callable[..., None]:
    """`hand_in(url, "h", 5, lane="a")`: five callbacks h-0 to h-4 into one lane."""

    def put(url: str, prefix: str, count: int, **more: object) -> None:
        items = [
            {"callback_url": url, "data": n, "id": f"{prefix}-{n}"} | more for n in range(count)
        ]
        callbacks.enqueue_many(items)

    enqueue("http://127.0.0.1:1/", 0)  # sets the environment up
    return put


#: How long fifty take alone: the distance to the last batch, and the adapted pace.
ALONE_S = 11.0
#: The default settings.
DEFAULTS = {"adaptive": "true"}
THREADS: dict[str, Any] = {"kind": "threads", "threads": 64}
GREENLETS: dict[str, Any] = {"kind": "greenlets", "threads": 500}


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("hanging", "workers"),
    [((20, 0), THREADS), ((1_000, 200), THREADS), ((1_000, 200), GREENLETS)],
)
def test_hosts_and_names_that_hang_do_not_hold_up_one_that_has_answered(
    system: System,
    hand_in: Callable[..., None],
    hanging: tuple[int, int],
    workers: dict[str, Any],
    record_property: Note,
) -> None:
    """With default settings, wherever they hang: connecting, in TLS, in the head, in the body.

    Or in the lookup of their names. The one that answers closes its connections, so that its name
    is looked up every time.
    """
    system.configure(**DEFAULTS)
    hosts, names = hanging
    folder = system.groups.folder
    with Target(headers={"connection": "close"}) as target, Hanging() as receivers:
        scripted = module(folder, "names", _NAMES)
        system.groups.worker(modules=[scripted], PYTHONPATH=f"{REPO}:{folder}", **workers)
        known = target.url.replace("127.0.0.1", "known.test")
        urls = [receivers.url(n, PLACES[n % len(PLACES)]) for n in range(hosts)]
        urls += [f"http://h{n}.hang.test/" for n in range(names)]
        last_s = last_of_fifty(hand_in, target, known, urls)
    check_in_time(system, last_s, record_property)


#: A resolver that answers for one name and hangs for others, below whatever runs lookups.
_NAMES = """
import socket, sys
from time import sleep
names, monkey = vars(socket), sys.modules.get("gevent.monkey")
if monkey and monkey.is_module_patched("socket"):
    sleep, names = monkey.get_original("time", "sleep"), monkey.saved["socket"]
true = names["getaddrinfo"]

def scripted(host, *args, **more):
    name = host.decode() if isinstance(host, bytes) else host
    if name.endswith(".hang.test"):
        sleep(3_600)
    return true("127.0.0.1" if name == "known.test" else host, *args, **more)

names["getaddrinfo"] = scripted
"""


def last_of_fifty(
    hand_in: Callable[..., None], target: Target, url: str, hanging: list[str]
) -> float:
    """Let one destination answer 20 times and many others hang, then enqueue 50 for the one."""
    hand_in(url, "known", 20)
    until(lambda: len(target.hits) >= 20, within=40)
    callbacks.enqueue_many({"callback_url": each, "data": None} for each in hanging)
    time.sleep(10)  # they have taken all they can get
    started = time.monotonic()
    hand_in(url, "late", 50)

    def arrived() -> list[float]:
        return [hit.at_s - started for hit in target.hits if hit.id.startswith("late")]

    until(lambda: len(arrived()) >= 50, within=60)
    return max(arrived())


def check_in_time(system: System, last_s: float, note: Note) -> None:
    """Compare the last of the fifty with the time they take alone, and check the stagger."""
    stagger_us = system.overview().stagger_us or 0
    note("last of fifty, s", round(last_s, 1))
    note("stagger, ms", stagger_us / 1_000)
    assert last_s <= ALONE_S + 2 + busy_s()
    assert 0 < stagger_us <= 200_000


def test_an_outage_buries_nothing(system: System, hand_in: Callable[..., None]) -> None:
    """Ten attempts a second against a receiver that is down would kill 60 in 6 s; none dies."""
    down = [True]
    system.configure(
        send_interval=0,
        destination_interval=0.02,
        min_interval=0.1,
        max_delay=0.2,
        check_interval=0.5,
        retry_increment=0.3,
        breaker_open_min=1,
        breaker_open_max=4,
        adaptive="false",
    )
    with Target(lambda hit, nth: 503 if down[0] else 200) as target:
        system.groups.worker()
        hand_in(target.url, "o", 200)
        time.sleep(8)
        during = len(target.hits)
        assert during < 40, "the breaker keeps requests away while it is open"
        down[0] = False
        until(system.settled, within=40)
    totals = system.overview().totals
    assert totals["sent"] >= 198
    assert totals["sent"] + totals["dead"] == 200
    assert system.audit() == []


def test_retry_after_parks_the_whole_destination(system: System, enqueue: Enqueue) -> None:
    asked: list[str] = []

    def answer(hit: Hit, nth: int) -> int:
        asked.append(hit.id)
        return 429 if len(asked) == 1 else 200

    system.configure(send_interval=0, destination_interval=0.05, min_interval=0.1, max_delay=0.2)
    with Target(answer, headers={"retry-after": "3"}) as target:
        system.groups.worker()
        enqueue(target.url, 20)
        until(system.settled, within=30)
    first, second = instants(system, 20)[:2]
    assert second - first >= 3_000  # it is unproven, so it gets one request at a time
    assert len(target.counts()) == 20
    status = find(system.batcher.scripts, asked[0])
    assert status is not None
    assert (status.state, status.retries) == ("sent", 0)


@BOTH_KINDS
def test_spacing_holds_over_processes_and_after_a_stall(
    system: System, enqueue: Enqueue, kind: str
) -> None:
    system.configure(max_delay=0.5)
    with Target() as target:
        workers = system.groups.worker(threads=16)
        enqueue(target.url, 50)
        until(lambda: len(target.hits) >= 15, within=20)
        workers.signal(signal.SIGSTOP)
        time.sleep(3)
        workers.signal(signal.SIGCONT)
        until(system.settled, within=30)
    assert not too_close(instants(system, 50), least_ms=200, kind=kind)
    assert set(target.counts().values()) == {1}


def test_a_big_backlog_and_small_ones_take_turns(
    system: System, hand_in: Callable[..., None]
) -> None:
    system.configure(
        send_interval=0.01, destination_interval=0.01, min_interval=0.1, adaptive="false"
    )
    with Target() as target:
        hand_in(target.url, "big", 3_000, lane="big")
        for n in range(20):
            hand_in(target.url, f"small{n}", 5, lane=f"small{n}")
        system.groups.worker(threads=32)

        def small() -> list[Hit]:
            return [hit for hit in target.hits if hit.id.startswith("small")]

        until(lambda: len(small()) >= 100, within=30)
        big = sum(hit.id.startswith("big") for hit in target.hits)
    assert big < 600, "the small ones never wait behind the big one"


def test_a_gone_url_gets_no_more(system: System, hand_in: Callable[..., None]) -> None:
    system.configure(max_delay=0.2, min_interval=0.1, check_interval=0.5, destination_interval=0)
    with Target(lambda hit, nth: 410) as target:
        system.groups.worker()
        hand_in(target.url, "g", 30)
        until(system.settled, within=20)
    assert len(target.hits) <= 3
    assert system.overview().totals["dead"] == 30
    assert {s.reason for s in statuses(system.inspector, Filter(State.DEAD))} == {"gone"}
