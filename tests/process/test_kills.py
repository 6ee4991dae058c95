"""A primary is killed under a flood of enqueues that wait: nothing acknowledged is lost."""

from __future__ import annotations

import pytest

from tests.conftest import forget_runtime
from tests.process.faults import Note
from tests.process.kills import kill_many
from tests.support.topologies import cluster

pytestmark = pytest.mark.long


def test_nothing_that_was_waited_for_is_lost_with_its_primary(
    monkeypatch: pytest.MonkeyPatch, record_property: Note
) -> None:
    forget = forget_runtime()
    monkeypatch.setenv("CALLBACKS_WAIT_FOR", "aof+replica")
    with cluster("--appendfsync", "always") as system:
        monkeypatch.setenv("REDIS_URL", system.url)
        try:
            tally = kill_many(system, kills=2, rate=500)
        finally:
            forget()
    record_property("acknowledged", tally.acknowledged)
    assert tally.kills == 2
    assert tally.refused > 0  # while there was no primary
    assert tally.lost == []
