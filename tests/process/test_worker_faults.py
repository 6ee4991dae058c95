"""Workers that are killed, stopped or told to end during their work."""

from __future__ import annotations

import signal
import time
from concurrent.futures import Future
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

from callbacks.batcher.inspector import find
from tests.process.conftest import System
from tests.process.faults import (
    BOTH_KINDS,
    OPEN,
    TERM_S,
    Enqueue,
    Note,
    balanced,
    busy_s,
    closest_ms,
    first_hits,
    instants,
    lateness,
    module,
    phases,
    ready,
    sooner,
    too_close,
    unlocked,
)
from tests.support.processes import until
from tests.support.target import Hit, Response, Target

CHECK_S = 3  # the default


class Gated:
    """An `answer` that holds the first request of each callback until the gate opens."""

    def __init__(self) -> None:
        self._gate: Future[None] = Future()

    def open(self) -> None:
        self._gate.set_result(None)

    def __call__(self, hit: Hit, nth: int) -> Response:
        return Response(until=self._gate if nth == 1 else None)


def test_what_killed_workers_had_claimed_and_not_begun_goes_out_at_once_with_new_ones(
    system: System, enqueue: Enqueue, tmp_path: Path, record_property: Note
) -> None:
    system.configure(**OPEN | {"check_interval": CHECK_S, "send_interval": 0.02})
    forever = module(
        tmp_path,
        "forever",
        "import time\n"
        "from callbacks import actors\n"
        "actors.send_once = lambda *args: time.sleep(600)\n",
    )
    with Target() as target:
        doomed = system.groups.worker(modules=[forever])
        enqueue(target.url, 60)
        until(lambda: len(phases(system)["claimed"]) == 60 and unlocked(system), within=15)
        doomed.kill()
        ready(system.groups.worker())
        last = until(lambda: len(target.counts()) == 60, within=30)
        record_property("s until the last", round(last, 1))
        assert last <= CHECK_S + 3 + busy_s()
        balanced(system, target, 60)
    assert system.overview().totals["recovered"] == 0


def test_with_the_defaults_another_group_sends_in_seconds_what_a_killed_one_had_not_begun(
    system: System, enqueue: Enqueue, record_property: Note
) -> None:
    system.configure(adaptive="true", send_interval=0.025, send_interval_min=0.025)

    def slowly(hit: Hit, nth: int) -> Response:
        # So slow that no destination is full of dead requests, which it would wait for.
        return Response(delay_s=0.5)

    with ExitStack() as stack:
        targets = [stack.enter_context(Target(slowly)) for _ in range(12)]
        doomed, other = system.groups.worker(), system.groups.worker()
        ready(doomed, other)
        other.signal(signal.SIGSTOP)  # so that everything in flight belongs to the doomed one
        for n, target in enumerate(targets):
            enqueue(target.url, 10, start=10 * n)
        until(lambda: sum(len(t.hits) for t in targets) >= 24, within=30)
        doomed.signal(signal.SIGSTOP)  # so that what is read still holds at the kill
        held = phases(system)
        other.signal(signal.SIGCONT)
        doomed.kill()
        killed = time.monotonic()
        until(system.settled, within=90)
    last = time.monotonic() - killed
    hits = {id: at for t in targets for id, at in first_hits(t).items()}
    late = lateness(held["claimed"], hits, since=killed)
    crashed = {s.id for s in system.inspector.find_many(sorted(hits)) if s.crashes}
    counts = sum((t.counts() for t in targets), start=targets[0].counts()) - targets[0].counts()
    record_property("s from slot or kill, not begun", round(max(late.values()), 1))
    record_property("not begun", len(late))
    record_property("crashed", len(crashed))
    record_property("s until the last in flight", round(last, 1))
    assert max(late.values()) <= CHECK_S + 3 + busy_s(), sorted(late.values())[-10:]
    assert last <= 60
    assert crashed
    assert crashed <= set(held["sending"])
    assert set(counts) == {f"c-{n}" for n in range(120)}
    assert {id for id, n in counts.items() if n > 1} <= crashed
    assert max(counts.values()) <= 2
    totals = system.overview().totals
    assert (totals["accepted"], totals["sent"]) == (120, 120)
    assert system.audit() == []


@BOTH_KINDS
def test_killed_during_the_request_a_callback_is_sent_once_more_with_its_id(
    system: System, enqueue: Enqueue, tmp_path: Path, record_property: Note
) -> None:
    system.configure(**OPEN, deadline=3)
    answer = Gated()
    with Target(answer) as target:
        doomed = system.groups.worker()
        enqueue(target.url, 8)
        until(lambda: len(target.hits) == 8, within=15)
        doomed.kill()
        answer.open()
        system.groups.worker(modules=[sooner(tmp_path)])
        record_property("s until the last", round(until(system.settled, within=30), 1))
        balanced(system, target, 8, most=2)
    assert sorted(hit.attempt for hit in target.hits) == [1] * 8 + [2] * 8
    totals = system.overview().totals
    assert (totals["recovered"], totals["retried"]) == (8, 0)
    status = find(system.batcher.scripts, "c-0")
    assert status is not None
    assert [a.reason for a in status.history] == ["crashed", None]
    assert (status.crashes, status.retries) == (1, 0)


@BOTH_KINDS
def test_killed_after_the_200_and_before_settling_a_callback_is_never_dead(
    system: System, enqueue: Enqueue, tmp_path: Path, record_property: Note
) -> None:
    system.configure(**OPEN, deadline=3)
    answer = Gated()
    with Target(answer) as target:
        doomed = system.groups.worker()
        enqueue(target.url, 24)
        until(lambda: len(target.hits) == 24, within=15)
        system.server.signal(signal.SIGSTOP)
        answer.open()
        time.sleep(0.5)  # nothing shows when the answers have been read
        doomed.kill()
        system.server.signal(signal.SIGCONT)
        system.groups.worker(modules=[sooner(tmp_path)])
        record_property("s until the last", round(until(system.settled, within=30), 1))
        balanced(system, target, 24, most=2)
    again = sum(n == 2 for n in target.counts().values())
    record_property("sent twice", again)
    # A settle may have reached the stopped Redis, but not those that waited for a connection.
    assert 24 - 2 * 4 <= again == system.overview().totals["recovered"]


@BOTH_KINDS
def test_after_two_sigterms_another_group_sends_what_was_not_begun_within_a_check(
    system: System, enqueue: Enqueue, record_property: Note
) -> None:
    system.configure(**OPEN | {"check_interval": CHECK_S, "send_interval": 0.04})

    def slowly(hit: Hit, nth: int) -> Response:
        return Response(delay_s=0.5)

    with Target(slowly) as target:
        leaving, other = (system.groups.worker(threads=32) for _ in range(2))
        ready(leaving, other)
        enqueue(target.url, 200)
        until(lambda: len(target.hits) >= 40, within=20)
        held = phases(system)
        leaving.signal(signal.SIGTERM)
        told = time.monotonic()
        time.sleep(0.3)
        leaving.signal(signal.SIGTERM)
        assert leaving.wait(TERM_S) == 0
        record_property("s until the exit", round(time.monotonic() - told, 1))
        until(system.settled, within=40)
        late = lateness(held["claimed"], first_hits(target), since=told)
        record_property("s from slot or signal, not begun", round(max(late.values()), 1))
        balanced(system, target, 200)
    assert len(late) >= 10
    assert max(late.values()) <= CHECK_S + 2 + busy_s()
    assert system.overview().totals["recovered"] == 0


@BOTH_KINDS
def test_on_sigterm_every_request_in_flight_ends_however_many_there_are(
    system: System, enqueue: Enqueue, record_property: Note
) -> None:
    system.configure(**OPEN, batch_size=200)

    def slowly(hit: Hit, nth: int) -> Response:
        return Response(delay_s=6 if int(hit.id[2:]) % 25 == 0 else 2)

    with Target(slowly) as target:
        leaving = system.groups.worker(threads=100)
        ready(leaving)
        enqueue(target.url, 200)
        until(lambda: len(target.hits) == 200, within=20)
        leaving.signal(signal.SIGTERM)
        told = time.monotonic()
        assert leaving.wait(TERM_S) == 0
        record_property("s until the exit", round(time.monotonic() - told, 1))
        record_property("cut", system.overview().processing)
        assert system.overview().processing == 0, "requests were cut before the shutdown timeout"
        balanced(system, target, 200)


@BOTH_KINDS
def test_a_request_that_outlasts_the_shutdown_is_cut_and_its_callback_recovered_once(
    system: System, enqueue: Enqueue, tmp_path: Path, record_property: Note
) -> None:
    system.configure(**OPEN, deadline=5)
    answer = Gated()
    with Target(answer) as target:
        leaving = system.groups.worker(shutdown_ms=500)
        ready(leaving)
        enqueue(target.url, 3)
        until(lambda: len(target.hits) == 3, within=15)
        leaving.signal(signal.SIGTERM)
        told = time.monotonic()
        assert leaving.wait(TERM_S) == 0
        record_property("s until the exit", round(time.monotonic() - told, 1))
        assert system.overview().processing == 3, "the requests ended before the shutdown did"
        system.groups.worker(modules=[sooner(tmp_path)])
        record_property("s until the last", round(until(system.settled, within=30), 1))
        answer.open()
        balanced(system, target, 3, most=2)
    assert system.overview().totals["recovered"] == 3


@BOTH_KINDS
def test_a_group_stopped_past_its_leases_settles_nothing_that_another_has_sent(
    system: System, enqueue: Enqueue, tmp_path: Path, record_property: Note
) -> None:
    system.configure(**OPEN, deadline=3)
    answer = Gated()
    with Target(answer) as target:
        stopped = system.groups.worker()
        enqueue(target.url, 5)
        until(lambda: len(target.hits) == 5, within=15)
        stopped.signal(signal.SIGSTOP)
        time.sleep(0.5)  # until all of its threads have stopped: one may yet settle
        answer.open()  # the answers wait in its sockets
        system.groups.worker(modules=[sooner(tmp_path)])
        record_property("s until the last", round(until(system.settled, within=30), 1))
        before = system.overview().totals
        stopped.signal(signal.SIGCONT)
        until(lambda: system.overview().totals["stale"] >= before["stale"] + 5, within=10)
        balanced(system, target, 5, most=2)
    after = system.overview().totals
    assert after == before | {"stale": before["stale"] + 5}
    assert after["recovered"] == 5


@BOTH_KINDS
def test_slots_that_passed_while_all_workers_were_stopped_do_not_go_out_at_once(
    system: System, enqueue: Enqueue, record_property: Note, kind: str
) -> None:
    system.configure(**OPEN | {"send_interval": 0.1})
    with Target() as target:
        workers = system.groups.worker(threads=64)
        enqueue(target.url, 80)
        until(lambda: len(target.hits) >= 20, within=20)
        workers.signal(signal.SIGSTOP)
        time.sleep(8)
        workers.signal(signal.SIGCONT)
        last = until(lambda: len(target.counts()) == 80, within=30)
        record_property("s until the last", round(last, 1))
        balanced(system, target, 80)
    given = instants(system, 80)
    record_property("least ms from one to the next", closest_ms(given))
    assert not too_close(given, least_ms=99, kind=kind), given
    assert max(y - x for x, y in pairwise(given)) >= 7_000, "nothing was stopped"


def test_a_callback_whose_message_is_lost_goes_out_a_check_and_two_seconds_later(
    system: System, enqueue: Enqueue, tmp_path: Path, record_property: Note
) -> None:
    system.configure(**OPEN | {"check_interval": CHECK_S, "send_interval": 0.05})
    lossy = module(
        tmp_path,
        "lossy",
        "import pathlib\n"
        "from callbacks import runtime\n"
        f"lost = pathlib.Path({str(tmp_path / 'lost')!r})\n"
        "lost.mkdir(exist_ok=True)\n"
        "send = runtime.BrokerMessages.batch\n"
        "def batch(self, claimed):\n"
        "    again = [each for each in claimed if (lost / each[0]).exists()]\n"
        "    for id, *_ in claimed: (lost / id).touch()\n"
        "    send(self, again)\n"
        "runtime.BrokerMessages.batch = batch\n",
    )
    with Target() as target:
        enqueue(target.url, 20)
        # So many that a process which starts before the other has places for all.
        system.groups.worker(threads=32, modules=[lossy])
        until(lambda: len(phases(system)["claimed"]) == 20, within=15)
        held = phases(system)["claimed"]
        until(system.settled, within=30)
        balanced(system, target, 20)
    assert len(list((tmp_path / "lost").iterdir())) >= 20
    late = lateness(held, first_hits(target))
    record_property("s from the slot", round(max(late.values()), 1))
    assert max(late.values()) <= CHECK_S + 2 + busy_s()
