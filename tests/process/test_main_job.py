"""What a user sees: callbacks are enqueued, batches are sent, retries and recovery just work."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from callbacks.batcher.inspector import find
from callbacks.batcher.listing import Filter, statuses
from tests.process.conftest import System
from tests.process.faults import (
    BOTH_KINDS,
    TERM_S,
    Enqueue,
    busy_s,
    early_s,
    instants,
    sooner,
    too_close,
)
from tests.support.processes import until
from tests.support.target import Hit, Response, Target


def test_each_callback_is_delivered_once_with_its_headers_and_bytes(
    system: System, enqueue: Enqueue
) -> None:
    secret = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    system.configure(send_interval=0, destination_interval=0, min_interval=0.05, secret=secret)
    with Target() as target:
        system.groups.worker()
        enqueue(target.url, 300)
        until(lambda: len(target.hits) >= 300, within=30)
        until(system.settled, within=5)
    assert set(target.counts().values()) == {1}
    assert system.overview().totals["sent"] == 300
    hit = target.hits[0]
    from standardwebhooks.webhooks import Webhook

    assert Webhook(secret).verify(hit.body, hit.headers)["data"] == {"n": int(hit.id[2:])}
    assert hit.headers["content-type"] == "application/json"
    assert hit.headers["webhook-attempt"] == "1"
    assert system.audit() == []


@BOTH_KINDS
def test_sends_are_staggered_evenly_across_batch_ends(
    system: System, enqueue: Enqueue, kind: str
) -> None:
    system.configure(batch_size=25)
    with Target() as target:
        system.groups.worker(threads=64)
        system.groups.scheduler()
        enqueue(target.url, 40)
        until(lambda: len(target.hits) >= 40, within=30)
        until(system.settled, within=10)
    given = instants(system, 40)
    assert not too_close(given, least_ms=200, kind=kind), given
    assert given[-1] - given[0] <= 39 * 200 + 1_000 * busy_s()
    assert early_s(system, target.hits) <= 0.01


def test_a_503_is_retried_twice_with_growing_waits_and_then_sent(
    system: System, enqueue: Enqueue
) -> None:
    system.configure(retry_increment=1.5, max_delay=0)
    with Target(lambda hit, nth: 503 if nth <= 2 else 200) as target:
        system.groups.worker()
        enqueue(target.url, 1)
        until(lambda: len(target.hits) == 3, within=20)
        until(system.settled, within=5)
    first, second, third = (hit.at_s for hit in target.hits)
    assert 1.5 <= second - first < 1.5 + 1 + busy_s()
    assert 3.0 <= third - second < 3.0 + 1 + busy_s()
    assert [hit.attempt for hit in target.hits] == [1, 2, 3]
    status = find(system.batcher.scripts, "c-0")
    assert status is not None
    assert [(a.status, a.outcome) for a in status.history] == [
        (503, "retry"),
        (503, "retry"),
        (200, "sent"),
    ]


def test_after_the_last_retry_a_callback_is_a_dead_letter(system: System, enqueue: Enqueue) -> None:
    system.configure(retry_increment=0.2, max_delay=0, breaker_failures=0)
    with Target(lambda hit, nth: 500) as target:
        system.groups.worker()
        enqueue(target.url, 2)
        until(system.settled, within=20)
    assert set(target.counts().values()) == {3}
    totals = system.overview().totals
    assert (totals["dead"], totals["retried"], totals["attempts"]) == (2, 4, 6)
    status = find(system.batcher.scripts, "c-1")
    assert status is not None
    assert (status.state, status.reason, status.status) == ("dead", "server_error", 500)
    assert system.audit() == []


def test_nobody_waits_longer_than_max_delay_and_a_second_for_a_batch_without_a_scheduler(
    system: System, enqueue: Enqueue
) -> None:
    system.configure(max_delay=2, check_interval=60)
    with Target() as target:
        system.groups.worker()
        until(
            lambda: system.batcher.scripts.client.exists("callbacks:__heartbeats__") == 1, within=20
        )
        for n in range(3):  # the second and third come while the check for the first is due
            enqueue(target.url, 1, start=n)
            handed_in = time.monotonic()
            until(lambda n=n: len(target.hits) > n, within=10)
            waited = target.hits[-1].at_s - handed_in
            until(
                system.settled, within=10
            )  # an outcome that comes late would ask for the next one
            assert 1.5 <= waited <= 2 + 1 + busy_s(), f"callback {n} waited {waited} s"


def test_a_lone_ticker_flushes_although_every_message_is_lost(
    system: System, enqueue: Enqueue
) -> None:
    system.configure(max_delay=0.5, check_interval=0.5, send_interval=0, destination_interval=0)
    with Target() as target:
        enqueue(target.url, 30)
        system.batcher.scripts.client.delete("callbacks:callbacks", "callbacks:callbacks.DQ")
        system.groups.worker()
        until(lambda: len(target.hits) >= 30, within=15)


def test_killed_in_mid_batch_everything_arrives_and_only_what_was_in_flight_comes_twice(
    system: System, enqueue: Enqueue, tmp_path: Path
) -> None:
    system.configure(
        send_interval=0,
        destination_interval=0,
        destination_concurrency=0,
        min_interval=0.1,
        check_interval=1,
        deadline=2,
        read_timeout=2,
        stuck_after=30,
    )

    def slowly(hit: Hit, nth: int) -> Response:
        return Response(delay_s=0.3)

    with Target(slowly) as target:
        workers = system.groups.worker(threads=16)
        enqueue(target.url, 400)
        until(lambda: len(target.hits) >= 150, within=30)
        workers.kill()
        time.sleep(0.4)  # what was in flight gets no answer
        settled = system.overview().totals["sent"]
        before = target.counts()
        assert len(before) < 400
        system.groups.worker(threads=16, modules=[sooner(tmp_path)])
        until(system.settled, within=60)
    counts = target.counts()
    assert len(counts) == 400
    twice = {id for id, n in counts.items() if n > 1}
    assert twice <= set(before), "only what had arrived before the kill may come twice"
    assert len(twice) <= len(before) - settled
    assert max(counts.values()) <= 2
    totals = system.overview().totals
    assert totals["sent"] == 400
    assert totals["recovered"] >= len(twice)
    assert system.audit() == []


def test_two_sigterms_to_the_whole_group_end_cleanly_and_strand_nothing(
    system: System, enqueue: Enqueue
) -> None:
    system.configure(check_interval=1, destination_interval=0, send_interval=0.05)

    def slowly(hit: Hit, nth: int) -> Response:
        return Response(delay_s=0.5)

    with Target(slowly) as target:
        workers = system.groups.worker()
        enqueue(target.url, 60)
        until(lambda: len(target.hits) >= 20, within=20)
        workers.signal(signal.SIGTERM)
        time.sleep(0.3)
        workers.signal(signal.SIGTERM)
        assert workers.wait(TERM_S) == 0
        assert "Killing worker" not in workers.output
        sending = [
            s
            for s in statuses(system.inspector, Filter(state("processing")))
            if s.phase == "sending"
        ]
        assert sending == []
        system.groups.worker()
        until(system.settled, within=40)
    assert set(target.counts().values()) == {1}
    assert system.overview().totals["recovered"] == 0
    assert system.audit() == []


def state(name: str):  # type: ignore[no-untyped-def]
    from callbacks.model import State

    return State(name)
