"""Workers whose clock is wrong: nothing early, nothing lost, nothing twice."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.process.conftest import System
from tests.process.faults import (
    OPEN,
    Enqueue,
    Note,
    Slots,
    busy_s,
    first_hits,
    ready,
    skewed,
)
from tests.support.processes import until
from tests.support.target import Hit, Target

CHECK_S = 1
DAY_S = 86_400
RETRY_S = 1.5


@pytest.mark.parametrize("offset_s", [90, -90, DAY_S, -DAY_S])
def test_a_worker_whose_clock_is_wrong_sends_nothing_early_and_nothing_twice(
    system: System, enqueue: Enqueue, tmp_path: Path, record_property: Note, offset_s: int
) -> None:
    system.configure(
        **OPEN | {"check_interval": CHECK_S, "send_interval": 0.05}, retry_increment=RETRY_S
    )

    def fifth_fails_first(hit: Hit, nth: int) -> int:
        return 503 if nth == 1 and int(hit.id[2:]) % 5 == 0 else 200

    with Target(fifth_fails_first) as target, Slots(system) as slots:
        right = system.groups.worker(threads=32)
        ready(right, system.groups.worker(threads=32, **skewed(tmp_path, offset_s)))
        started = time.monotonic()
        enqueue(target.url, 100)
        until(system.settled, within=40)
        record_property("s until the last, ideally 6", round(time.monotonic() - started, 1))
    hits = target.hits
    late = sorted(slots.late_s(hits))
    record_property("least s late", round(late[0], 3))
    record_property("95 % s late", round(late[len(late) * 95 // 100], 2))
    record_property("most s late", round(late[-1], 2))
    assert len(late) >= 60, "the slots were not seen"
    assert late[0] >= -0.02
    assert late[-1] <= CHECK_S + 3 + busy_s()
    counts = target.counts()
    assert counts == {f"c-{n}": 1 + (n % 5 == 0) for n in range(100)}
    firsts = first_hits(target)
    waits = [hit.at_s - firsts[hit.id] for hit in hits if hit.attempt == 2]
    record_property("retry waits", f"{min(waits):.2f} to {max(waits):.2f}")
    assert min(waits) >= RETRY_S - 0.02
    totals = system.overview().totals
    assert (totals["sent"], totals["attempts"], totals["recovered"]) == (100, 120, 0)
    assert system.audit() == []
