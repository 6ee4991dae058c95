"""A callback's secrets and its sending, while the application's resolver is slow or hangs."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from types import ModuleType

import pytest

from callbacks.delivery.callback import AICallback, _resolve
from callbacks.delivery.daemon_pool import DaemonPool
from callbacks.model import Answer, Reason
from callbacks.settings import Settings

CONTEXT: ContextVar[str] = ContextVar("context")
SECRET = "whsec_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"
OTHER = "whsec_b3RoZXJvdGhlcm90aGVyb3RoZXJvdGhlcm90"


class Sender:
    """Records the elapsed times it was given."""

    def __init__(self) -> None:
        self.spent_s: list[float] = []

    def post(
        self,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        *,
        spent_s: float = 0,
        proven: bool = False,
    ) -> Answer:
        assert "webhook-signature" in headers
        self.spent_s.append(spent_s)
        return Answer(200, None)


@pytest.fixture
def released(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[threading.Event]:
    """Make a resolver that waits for this event, which is set when the test ends."""
    event, module = threading.Event(), ModuleType(f"resolver_for_{request.node.name}")

    def find(_callback_url: str, _environment: str) -> list[str]:
        event.wait(30)
        return [OTHER]

    module.find = find  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    yield event
    event.set()


def callback(request: pytest.FixtureRequest, deadline: float) -> AICallback:
    path = f"resolver_for_{request.node.name}:find"
    settings = Settings(secret=(SECRET,), secret_resolver=path, deadline=deadline, stuck_after=60)
    return AICallback("https://a.example/", 1, settings=settings)


def test_without_a_resolver_the_settings_have_the_secrets() -> None:
    signed = AICallback("https://a.example/", 1, settings=Settings(secret=(SECRET,)))
    assert signed.secrets == (SECRET,)
    assert AICallback("https://a.example/", 1, settings=Settings()).secrets == ()


def test_a_resolver_decides_alone(
    released: threading.Event, request: pytest.FixtureRequest
) -> None:
    released.set()
    assert callback(request, 10).secrets == (OTHER,)


def test_a_resolver_that_hangs_is_our_fault_in_half_the_deadline_and_nothing_is_sent(
    released: threading.Event, request: pytest.FixtureRequest
) -> None:
    sender, began = Sender(), time.monotonic()
    answer = callback(request, 0.4).send(sender=sender)
    assert time.monotonic() - began < 10
    assert (answer.fault, sender.spent_s) == (Reason.NO_SECRET, [])
    assert answer.detail.endswith(":find: the secret resolver did not end in time")


def test_at_enqueue_a_resolver_runs_in_the_callers_thread(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, threads = ModuleType(f"resolver_for_{request.node.name}"), []

    def find(_callback_url: str, _environment: str) -> list[str]:
        threads.append((threading.current_thread(), CONTEXT.get()))
        return [OTHER]

    module.find = find  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    CONTEXT.set("the caller's")
    made = callback(request, 10)
    assert made.signable
    assert made.send(sender=Sender()).status == 200
    assert made.send(sender=Sender()).status == 200
    (enqueued, _), (first, context), (second, _) = threads
    assert enqueued is threading.current_thread()
    assert first is second is not enqueued
    assert context == "the caller's"


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_a_resolver_cannot_end_a_workers_thread(
    monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    module = ModuleType(f"resolver_that_raises_{error.__name__}")

    def find(_callback_url: str, _environment: str) -> list[str]:
        raise error

    module.find = find  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    settings = Settings(secret_resolver=f"{module.__name__}:find")
    answer = AICallback("https://a.example/", 1, settings=settings).send(sender=Sender())
    assert answer.fault is Reason.NO_SECRET


def test_where_the_system_gives_no_thread_nothing_is_sent(
    released: threading.Event, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    fresh = DaemonPool(_resolve, name="secret resolver")  # without waiting threads
    monkeypatch.setattr("callbacks.delivery.callback._RESOLUTIONS", fresh)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    answer = callback(request, 10).send(sender=Sender())
    assert (answer.fault, "no thread" in answer.detail) == (Reason.NO_SECRET, True)


def test_what_a_resolver_took_is_not_left_for_the_receiver(
    released: threading.Event, request: pytest.FixtureRequest
) -> None:
    threading.Timer(0.2, released.set).start()
    sender = Sender()
    assert callback(request, 30).send(sender=sender).status == 200
    assert 0.1 < sender.spent_s[0] < 15
