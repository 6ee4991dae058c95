from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from callbacks.batcher.topology import Sentinels

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


def in_a_child(work: Callable[[], bool]) -> bool:
    """Whether it returns True in a forked child, within five seconds."""
    child = os.fork()
    if not child:
        signal.alarm(5)
        os._exit(0 if work() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_child_finds_the_primary_although_a_thread_of_its_parent_was_noting_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sentinels = Sentinels((("sentinel.test", 26_379),), "main", {}, timeout_s=1)
    monkeypatch.setattr(sentinels.sentinel, "discover_master", lambda _: ("primary.test", 6_379))
    with sentinels._seen._lock:
        assert in_a_child(lambda: sentinels.primary() == ("primary.test", 6_379))
    assert sentinels.primary() == ("primary.test", 6_379)
