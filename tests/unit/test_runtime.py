"""What a process has only one of is made once."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pytest

from callbacks import runtime
from callbacks.settings import Settings, load_settings


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Settings]]:
    """Made slowly, so that other callers come in the meantime."""
    made: list[Settings] = []

    def slow() -> Settings:
        time.sleep(0.02)
        made.append(load_settings({}))
        return made[-1]

    monkeypatch.setattr("callbacks.settings.load_settings", slow)
    before = runtime._once.forget()
    yield made
    runtime._once.forget()
    runtime._once._made = before


def test_first_calls_of_many_threads_at_once_make_one_pool(made: list[Settings]) -> None:
    together, found = threading.Barrier(8), []

    def call() -> None:
        together.wait()
        found.append(runtime.runtime())

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert len({id(parts.client.connection_pool) for parts in found}) == 1


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_forked_while_another_thread_makes_them_makes_its_own(
    made: list[Settings],
) -> None:
    with runtime._once._lock:
        child = os.fork()
        if not child:
            runtime.runtime()
            os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
