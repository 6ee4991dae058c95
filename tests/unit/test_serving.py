"""What the check that workers serve our broker relies on in Dramatiq, which is pinned."""

from __future__ import annotations

import inspect
import os
import resource
import sys
from types import SimpleNamespace
from typing import Any

import dramatiq
import pytest
from dramatiq import cli
from dramatiq.brokers.stub import StubBroker

from callbacks.settings import load_settings
from callbacks.worker.serving import (
    check_named,
    check_served,
    check_threads,
    find_actor,
    owns_stderr,
)

OURS, OTHER = StubBroker(), StubBroker()


def test_a_worker_process_of_dramatiq_has_the_names_that_are_read() -> None:
    assert {"args", "broker"} <= set(cli.worker_process.__code__.co_varnames)
    arguments = vars(cli.make_argument_parser().parse_args(["a", "b"]))
    assert {"broker", "log_file", "modules", "processes"} <= arguments.keys()
    assert "args" in inspect.signature(cli.worker_process).parameters


@pytest.mark.parametrize(
    ("modules", "served", "refused"),
    [
        (["yours", "callbacks"], OTHER, True),
        (["yours", "callbacks"], OURS, False),  # it uses our broker
        (["yours", "others"], OTHER, False),
        (["yours:broker", "callbacks.runtime"], OTHER, True),
        (["callbacks", "yours"], OURS, False),
    ],
)
def test_only_a_command_that_names_us_and_serves_another_broker_is_refused(
    monkeypatch: pytest.MonkeyPatch, modules: list[str], served: Any, refused: bool
) -> None:
    def worker_process(args: Any, broker: Any) -> None:
        check_served(OURS)  # it reads args and broker from here
        assert args.broker
        assert broker

    monkeypatch.setattr(cli, "worker_process", worker_process)
    args = SimpleNamespace(broker=modules[0], modules=modules[1:])
    if refused:
        with pytest.raises(SystemExit, match=f"serves the broker of '{modules[0]}'"):
            worker_process(args, served)
    else:
        worker_process(args, served)


@pytest.mark.parametrize(
    ("threads", "limit", "user", "refused"),
    [
        (120, 256, 1000, False),  # 2 * (120 + 7) + 2 = 256
        (121, 256, 1000, True),
        (121, resource.RLIM_INFINITY, 1000, False),
        (121, 256, 0, False),  # which no limit holds for
    ],
)
def test_more_threads_than_the_system_gives_are_refused(
    monkeypatch: pytest.MonkeyPatch, threads: int, limit: int, user: int, refused: bool
) -> None:
    def worker_process(args: Any) -> None:
        check_threads(threads)
        assert args

    monkeypatch.setattr(cli, "worker_process", worker_process)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    monkeypatch.setattr(os, "geteuid", lambda: user)
    if refused:
        with pytest.raises(SystemExit, match=r"takes 258 .* may have 256 \(ulimit -u\)"):
            worker_process(SimpleNamespace(processes=2))
    else:
        worker_process(SimpleNamespace(processes=2))


def test_outside_of_a_worker_process_nothing_is_refused() -> None:
    check_served(OURS)


@pytest.mark.parametrize("log_file", [None, "workers.log"])
def test_a_worker_writes_its_lines_itself_unless_dramatiq_has_a_log_file(
    monkeypatch: pytest.MonkeyPatch, log_file: str | None
) -> None:
    def worker_process(args: Any) -> bool:
        assert args
        return owns_stderr()

    monkeypatch.setattr(cli, "worker_process", worker_process)
    assert worker_process(SimpleNamespace(log_file=log_file)) is (log_file is None)
    assert not owns_stderr()
    monkeypatch.setattr(sys, "__stderr__", None)  # it was closed at the start
    assert not worker_process(SimpleNamespace(log_file=log_file))


def test_an_actor_has_to_be_on_the_broker_that_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    @dramatiq.actor(broker=OTHER)
    def mourn(callback_id: str, reason: str) -> None: ...

    monkeypatch.setattr(dramatiq.broker, "global_broker", OTHER)
    with pytest.raises(LookupError, match="on another broker"):
        find_actor("mourn", OURS)
    assert find_actor("mourn", OTHER) is mourn
    with pytest.raises(LookupError, match="no actor 'nobody' here"):
        find_actor("nobody", OURS)


def test_what_is_not_named_is_not_looked_for() -> None:
    check_named(load_settings({}), OURS)
