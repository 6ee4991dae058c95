"""The kit for tests of applications: the real scripts and requests, by a clock that is moved."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from datetime import date
from itertools import pairwise
from typing import Any

import dramatiq
import pytest
import redis
from dramatiq.brokers.stub import StubBroker

import callbacks
from callbacks import (
    InvalidCallback,
    QueueFull,
    Receipt,
    SettingsError,
    enqueue,
    get_status,
)
from callbacks.batcher.audit import audit
from callbacks.batcher.client import connect
from callbacks.batcher.inspector import Inspector
from callbacks.batcher.store import Batcher
from callbacks.cli.receiver import Receiver
from callbacks.delivery.callback import AICallback
from callbacks.model import Reason
from callbacks.runtime import runtime
from callbacks.testing import (
    CallbacksApp,
    CallbacksOutbox,
    CallbacksReceiver,
    EmbeddedServer,
    Response,
    adeliver_all,
    assert_delivered,
    deliver_all,
)
from callbacks.testing.sender import transport
from tests.support.processes import clean_environment, until

URL = "https://customer.example/hooks"
DAY_S = 86_400


@pytest.fixture
def callbacks_settings(request: pytest.FixtureRequest) -> dict[str, Any]:
    """As in an application's conftest.py, for the tests that ask for some."""
    given: dict[str, Any] = getattr(request, "param", {})
    return given


# Delivery


def test_a_callback_is_delivered_signed_to_the_receiver_under_its_own_url(
    callbacks_receiver: CallbacksReceiver,
) -> None:
    enqueue(URL, {"n": 1}, event="done", id="c-1", headers={"X-Kind": "test"})

    (attempt,) = deliver_all()

    assert (attempt.id, attempt.url, attempt.status, attempt.attempt) == ("c-1", URL, 200, 1)
    (request,) = callbacks_receiver.requests
    assert (request.id, request.url, request.event, request.data) == ("c-1", URL, "done", {"n": 1})
    assert (request.verified, request.status, request.attempt) == (True, 200, 1)
    assert request.headers["x-kind"] == "test"
    assert assert_delivered(URL, event="done", data={"n": 1}) == attempt
    assert deliver_all() == []


def test_retries_come_after_30_and_60_seconds_of_the_clock_and_at_once_of_ours(
    callbacks_receiver: CallbacksReceiver,
) -> None:
    callbacks_receiver.answer_next(503, Response(drop=True))
    enqueue(URL, {}, id="c-1")

    first, second, third = deliver_all()

    assert (first.status, second.reason, third.status) == (503, Reason.RESET, 200)
    assert 30 <= second.at - first.at < 32
    assert 60 <= third.at - second.at < 63
    assert [request.attempt for request in callbacks_receiver.requests] == [1, 2, 3]
    assert [request.status for request in callbacks_receiver.requests] == [503, None, 200]


def test_a_schedule_of_hours_is_kept(
    callbacks_app: CallbacksApp, callbacks_receiver: CallbacksReceiver
) -> None:
    callbacks_app.configure(retry_schedule=[5, 3_600, 36_000])
    callbacks_receiver.answer_always(500)
    enqueue(URL, {}, id="c-1")

    attempts = deliver_all()

    first, second, third = (after.at - before.at for before, after in pairwise(attempts))
    assert 5 <= first < 10
    assert 3_600 <= second < 3_620
    assert 36_000 <= third < 36_020
    status = get_status("c-1")
    assert status is not None
    assert (status.state, status.reason) == ("dead", "server_error")


def test_a_receiver_that_asks_for_an_hour_gets_it(callbacks_receiver: CallbacksReceiver) -> None:
    callbacks_receiver.answer_next(Response(429, (("retry-after", "3600"),)))
    enqueue(URL, {})

    first, second = deliver_all()

    assert 3_600 <= second.at - first.at < 3_620


@pytest.mark.parametrize("callbacks_settings", [{}, {"shards": 4}], indirect=True)
def test_hundreds_to_many_hosts_all_arrive_and_the_books_balance(
    callbacks_receiver: CallbacksReceiver,
) -> None:
    items = [
        {"callback_url": f"https://host-{n % 7}.example/", "data": n, "id": f"c-{n}"}
        for n in range(300)
    ]
    callbacks.enqueue_many(items)

    attempts = deliver_all()

    assert sorted(attempt.data for attempt in attempts) == [*range(300)]
    assert list(audit(Inspector(runtime().batcher.scripts))) == []


def test_what_is_paused_stays_until_it_is_resumed(callbacks_receiver: CallbacksReceiver) -> None:
    enqueue(URL, {}, id="c-1")
    runtime().batcher.pause()

    assert deliver_all() == []
    status = get_status("c-1")
    assert status is not None
    assert status.state == "queued"

    runtime().batcher.resume()
    assert len(deliver_all()) == 1


def test_a_destination_whose_breaker_opens_is_tried_again(
    callbacks_receiver: CallbacksReceiver,
) -> None:
    callbacks_receiver.answer_next(*[500] * 6)
    for n in range(3):
        enqueue(URL, n)

    attempts = deliver_all()

    assert [attempt.status for attempt in attempts].count(200) == 3


def test_the_actor_for_deaths_is_called_whichever_broker_it_has(
    callbacks_app: CallbacksApp, callbacks_receiver: CallbacksReceiver
) -> None:
    told: list[tuple[str, str]] = []
    ours, broker = dramatiq.get_broker(), StubBroker()
    dramatiq.set_broker(broker)
    try:
        dramatiq.actor(lambda *death: told.append(death), actor_name="on_dead")
        callbacks_app.configure(on_dead="on_dead")
        callbacks_receiver.answer_always(410)
        enqueue(URL, {}, id="c-1")
        deliver_all()
    finally:
        dramatiq.set_broker(ours)

    assert told == [("c-1", "gone")]


def test_a_missing_actor_for_deaths_is_an_error(callbacks_app: CallbacksApp) -> None:
    callbacks_app.configure(on_dead="missing")

    with pytest.raises(LookupError, match="CALLBACKS_ON_DEAD: no actor 'missing'"):
        deliver_all()


# The clock


def test_after_a_day_it_has_expired(
    callbacks_app: CallbacksApp, callbacks_receiver: CallbacksReceiver
) -> None:
    enqueue(URL, {}, id="c-1")
    callbacks_app.clock.advance(DAY_S)

    assert deliver_all() == []
    status = get_status("c-1")
    assert status is not None
    assert (status.state, status.reason) == ("dead", "expired")


def test_a_delay_is_waited_for_or_not(callbacks_receiver: CallbacksReceiver) -> None:
    enqueue(URL, {}, delay=3_600)

    assert deliver_all(within=3_590) == []
    assert deliver_all(within=5) == []
    assert len(deliver_all(within=20)) == 1


def test_the_time_given_has_passed(callbacks_app: CallbacksApp) -> None:
    before = callbacks_app.clock.time()

    deliver_all(within=100)

    assert 100 <= callbacks_app.clock.time() - before < 130


def test_the_clock_goes_ahead_only(callbacks_app: CallbacksApp) -> None:
    with pytest.raises(ValueError, match="cannot be moved back: -1"):
        callbacks_app.clock.advance(-1)


def test_keys_with_a_time_to_live_expire_by_the_clock(callbacks_app: CallbacksApp) -> None:
    client = runtime().client
    client.set("short", "", px=50_000)
    client.set("long", "", px=200_000)

    callbacks_app.clock.advance(100)

    assert client.exists("short") == 0
    assert 0 < client.pttl("long") <= 100_000


def test_scripts_of_a_running_service_know_nothing_of_the_clock(
    callbacks_app: CallbacksApp,
) -> None:
    moved = runtime().batcher
    with connect(moved.settings) as client:
        service = Batcher(client, moved.settings)
        before = service.look().now_ms
        callbacks_app.clock.advance(DAY_S)

        assert service.look().now_ms - before < DAY_S * 1_000
        assert moved.look().now_ms - before >= DAY_S * 1_000
        client.connection_pool.disconnect()


# This machine alone


def test_without_a_receiver_nothing_is_sent_to_another_host(callbacks_app: CallbacksApp) -> None:
    enqueue(URL, {}, id="c-1")
    enqueue("https://93.184.215.14/", {}, id="c-2")

    first, second = deliver_all()

    assert first.reason is second.reason is Reason.BLOCKED_ADDRESS
    assert first.detail.startswith("callbacks.testing sends to this machine only")


@pytest.mark.parametrize("host", ["10.0.0.1", "169.254.169.254", "[fd00::1]"])
def test_an_inner_address_is_refused_as_in_production(
    callbacks_receiver: CallbacksReceiver, host: str
) -> None:
    enqueue(f"https://{host}/", {})

    (attempt,) = deliver_all()

    assert (attempt.reason, callbacks_receiver.requests) == (Reason.BLOCKED_ADDRESS, ())
    assert "not a public address" in attempt.detail


def test_a_receiver_of_ones_own_on_this_machine_is_sent_to(callbacks_app: CallbacksApp) -> None:
    with Receiver() as own:
        enqueue(own.url("/mine"), {"n": 1})
        deliver_all()

        assert [hit.path for hit in own.hits] == ["/mine"]
    assert_delivered(own.url("/mine"), data={"n": 1})


# The receiver


def test_a_wrong_signature_is_answered_401(
    callbacks_app: CallbacksApp, callbacks_receiver: CallbacksReceiver
) -> None:
    other = "whsec_" + "c2VjcmV0" * 4
    settings = callbacks_app.settings.model_copy(update={"secret": (other,)})
    with closing(transport(settings)) as sender:
        answer = AICallback(callbacks_receiver.url, {}, settings=settings).send(sender=sender)

    (request,) = callbacks_receiver.requests
    assert (answer.status, request.status, request.verified) == (401, 401, False)
    assert request.problem == "webhook-signature matches none of the secrets"


def test_without_a_secret_nothing_is_verified(
    callbacks_app: CallbacksApp, callbacks_receiver: CallbacksReceiver
) -> None:
    callbacks_app.configure(secret=None)
    enqueue(callbacks_receiver.url, {})
    deliver_all()

    (request,) = callbacks_receiver.requests
    assert (request.verified, request.status, request.path) == (None, 200, "/hook")
    assert "webhook-signature" not in request.headers


def test_the_secret_of_its_environment_is_what_signs(
    callbacks_app: CallbacksApp, callbacks_receiver: CallbacksReceiver
) -> None:
    callbacks_app.configure(environment_secrets={"eu-staging": "whsec_" + "c2VjcmV0" * 4})
    enqueue(URL, {}, environment="eu-staging")
    enqueue(URL, {})
    deliver_all()

    assert [request.verified for request in callbacks_receiver.requests] == [True, True]
    assert len(callbacks_app.settings.secrets_for("eu-staging")) == 1
    assert callbacks_app.settings.secrets_for("eu-staging") != callbacks_app.settings.secret


def test_a_receiver_that_hangs_is_given_up_at_the_deadline(
    callbacks_app: CallbacksApp, callbacks_receiver: CallbacksReceiver
) -> None:
    callbacks_app.configure(deadline=0.2, max_retries=0)
    callbacks_receiver.answer_always(Response(until=Future()))
    enqueue(URL, {})

    (attempt,) = deliver_all()

    assert attempt.reason is Reason.TIMEOUT


def test_answers_and_requests_can_be_forgotten(callbacks_receiver: CallbacksReceiver) -> None:
    callbacks_receiver.answer_next(410)
    callbacks_receiver.answer_always(410)
    callbacks_receiver.clear()
    enqueue(URL, {})

    assert [attempt.status for attempt in deliver_all()] == [200]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.anyio
async def test_a_receiver_in_the_same_event_loop_can_answer(callbacks_app: CallbacksApp) -> None:
    import asyncio

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        enqueue(url, {})
        attempts = await adeliver_all()

    assert [attempt.status for attempt in attempts] == [204]


# What a failed assertion says


def said(*args: Any, **given: Any) -> list[str]:
    with pytest.raises(AssertionError) as caught:
        assert_delivered(*args, **given)
    return str(caught.value).splitlines()


def test_it_says_how_what_was_delivered_differs(callbacks_receiver: CallbacksReceiver) -> None:
    enqueue(URL, {"a": 1, "b": 2}, event="done", id="c-1")
    deliver_all()

    assert said(URL, event="failed", data={"a": 1, "b": 3}) == [
        f"nothing was delivered to {URL} with event='failed', data={{'a': 1, 'b': 3}}",
        "  delivered there, but different:",
        "    c-1:",
        "      event is 'done', not 'failed'",
        "      data differs (- expected, + delivered):",
        "        - {'a': 1, 'b': 3}",
        "        + {'a': 1, 'b': 2}",
    ]


def test_it_says_what_was_tried_and_what_waits(callbacks_receiver: CallbacksReceiver) -> None:
    callbacks_receiver.answer_next(410)
    enqueue(URL, {}, id="c-1")
    enqueue("https://other.example/", {}, id="c-2")
    deliver_all()
    enqueue("https://waiting.example/", {}, id="c-3")

    first, *more = said(URL)
    assert first == f"nothing was delivered to {URL}"
    assert "  tried there, but not delivered:" in more
    assert "    c-1, attempt 1: answered 410" in more
    assert "    c-1: dead, gone" in more
    assert "    https://other.example/ (1)" in more
    assert "    c-3: queued, deliver_all() sends it" in said("https://waiting.example")


def test_it_says_if_nothing_was_sent_at_all(callbacks_app: CallbacksApp) -> None:
    assert said(URL)[-1] == "  no request was made; did the test call deliver_all()?"


def test_data_is_compared_as_json_has_it(callbacks_receiver: CallbacksReceiver) -> None:
    data = {"pair": (1, 2), "day": date(2026, 11, 27)}
    enqueue(URL, data)
    deliver_all()

    assert_delivered(URL, data=data)
    assert_delivered(URL, data={"pair": [1, 2], "day": "2026-11-27"})


# The outbox


def test_the_outbox_has_what_was_enqueued_in_order(callbacks_outbox: CallbacksOutbox) -> None:
    receipt = enqueue(
        "HTTPS://Customer.example:443/hooks",
        {"n": 1},
        event="done",
        environment="staging",
        headers={"X-Kind": "test"},
        delay=5,
        expires_in=60,
        lane="customer 7",
    )
    callbacks.enqueue_many([{"callback_url": URL, "data": n, "id": f"c-{n}"} for n in range(2)])

    first, *others = callbacks_outbox
    assert (first.id, first.url, first.event, first.data) == (receipt.id, URL, "done", {"n": 1})
    assert (first.environment, first.headers, first.lane) == (
        "staging",
        {"x-kind": "test"},
        "customer 7",
    )
    assert (first.delay, first.expires_in) == (5, 60)
    assert [(each.id, each.data, each.event) for each in others] == [
        ("c-0", 0, "callback"),
        ("c-1", 1, "callback"),
    ]
    assert len(callbacks_outbox) == 3
    assert callbacks_outbox[-1].lane is None


def test_the_outbox_knows_ids_and_cancels(callbacks_outbox: CallbacksOutbox) -> None:
    assert enqueue(URL, 1, id="c-1").accepted
    assert enqueue(URL, 1, id="c-1") == Receipt("c-1", accepted=False)
    assert enqueue(URL, 2, id="c-1") == Receipt("c-1", accepted=False, conflict=True)
    status = get_status("c-1")
    assert status is not None
    assert (status.state, status.destination) == ("queued", "https://customer.example:443")
    assert (status.callback_url, status.event) == (URL, "callback")

    assert callbacks.cancel("c-1")
    assert not callbacks.cancel("unknown")
    assert list(callbacks_outbox) == []
    status = get_status("c-1")
    assert status is not None
    assert status.state == "cancelled"
    assert get_status("unknown") is None

    callbacks_outbox.clear()
    assert enqueue(URL, 3, id="c-1").accepted


def test_the_outbox_refuses_what_is_always_refused(callbacks_outbox: CallbacksOutbox) -> None:
    with pytest.raises(InvalidCallback, match="callback_url: has no scheme"):
        enqueue("customer.example", {})
    with pytest.raises(InvalidCallback, match=r"\[1\].data: is missing"):
        callbacks.enqueue_many([{"callback_url": URL, "data": 1}, {"callback_url": URL}])

    assert list(callbacks_outbox) == []


def test_urls_are_checked_without_looking_names_up(callbacks_outbox: CallbacksOutbox) -> None:
    assert callbacks.check_url("https://customer.example/hooks")
    assert callbacks.check_url("http://localhost:8000/hooks"), "it may be reached in a test"
    for url in ("https://10.0.0.1/hooks", "ftp://customer.example/"):
        with pytest.raises(callbacks.InvalidCallback):
            callbacks.check_url(url)


@pytest.mark.anyio
async def test_the_outbox_has_what_coroutines_enqueue(callbacks_outbox: CallbacksOutbox) -> None:
    assert (await callbacks.aenqueue(URL, 1, id="c-1")).accepted
    assert (await callbacks.aenqueue(URL, 2, id="c-1")).conflict
    await callbacks.aenqueue_many([{"callback_url": URL, "data": n, "id": f"m-{n}"} for n in "ab"])
    status = await callbacks.aget_status("c-1")
    assert await callbacks.acancel("m-a")

    assert status is not None
    assert status.state == "queued"
    assert [each.id for each in callbacks_outbox] == ["c-1", "m-b"]


@pytest.mark.parametrize("error", [QueueFull("made up"), redis.ConnectionError("made up")])
def test_the_outbox_raises_what_it_is_told_to(
    callbacks_outbox: CallbacksOutbox, error: Exception
) -> None:
    callbacks_outbox.error = error
    with pytest.raises(type(error), match="made up") as caught:
        enqueue(URL, {}, id="c-1")
    assert caught.value.callback_id == "c-1"  # type: ignore[attr-defined]
    with pytest.raises(type(error), match="made up"):
        callbacks.enqueue_many([{"callback_url": URL, "data": 1}])

    callbacks_outbox.error = None
    assert enqueue(URL, {}, id="c-1").accepted


def test_what_needs_redis_says_that_the_outbox_has_none(callbacks_outbox: CallbacksOutbox) -> None:
    with pytest.raises(redis.ConnectionError, match="callbacks_outbox"):
        runtime().client.ping()
    with pytest.raises(RuntimeError, match="this needs the fixture callbacks_app"):
        deliver_all()


# Settings


@pytest.mark.parametrize("callbacks_settings", [{"max_queued": 2}], indirect=True)
@pytest.mark.parametrize("kind", ["callbacks_outbox", "callbacks_app"])
def test_settings_of_the_fixture_apply_to_both(
    request: pytest.FixtureRequest, callbacks_settings: dict[str, Any], kind: str
) -> None:
    request.getfixturevalue(kind)
    for n in range(2):
        enqueue(URL, n)
    with pytest.raises(QueueFull, match="2 callbacks wait"):
        enqueue(URL, 3)


def test_the_developers_own_settings_do_not_count_and_come_back(
    monkeypatch: pytest.MonkeyPatch, callbacks_server: EmbeddedServer
) -> None:
    monkeypatch.setenv("CALLBACKS_BATCH_SIZE", "7")
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    monkeypatch.delenv("CALLBACKS_SECRET", raising=False)
    before = dict(os.environ)

    with CallbacksApp(callbacks_server, max_retries=5) as app:
        assert (app.settings.batch_size, app.settings.max_retries) == (100, 5)
        assert app.settings.redis_url == callbacks_server.url
        app.configure(batch_size=8, adaptive=False)
        assert (app.settings.batch_size, app.settings.adaptive) == (8, False)

    assert dict(os.environ) == before


def test_a_wrong_setting_is_named(callbacks_app: CallbacksApp) -> None:
    with pytest.raises(SettingsError, match=r"batch_sise is not a setting.*mean batch_size"):
        callbacks_app.configure(batch_sise=1)
    with pytest.raises(SettingsError, match="CALLBACKS_BATCH_SIZE is '0'"):
        callbacks_app.configure(batch_size=0)


def test_an_app_and_an_outbox_exclude_each_other(callbacks_app: CallbacksApp) -> None:
    with (
        pytest.raises(RuntimeError, match="a CallbacksApp is in use already"),
        CallbacksOutbox(),
    ):
        raise AssertionError


def test_each_test_starts_with_an_empty_server(callbacks_server: EmbeddedServer) -> None:
    for _ in range(2):
        with CallbacksApp(callbacks_server):
            assert enqueue(URL, {}, id="c-1").accepted


def test_an_application_may_enqueue_in_other_threads(
    callbacks_receiver: CallbacksReceiver,
) -> None:
    threads = [threading.Thread(target=enqueue, args=(URL, n)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(attempt.data for attempt in deliver_all()) == [*range(8)]


# The server


@contextmanager
def child(code: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        env=clean_environment(),
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout
        process.stdout.close()


def test_a_server_ends_with_the_process_that_started_it() -> None:
    code = (
        "import time\n"
        "from callbacks.testing import EmbeddedServer\n"
        "with EmbeddedServer() as server:\n"
        "    print(server.url.removeprefix('unix://'), flush=True)\n"
        "    time.sleep(60)\n"
    )
    with child(code) as process:
        assert process.stdout
        path = process.stdout.readline().strip()
        assert listens(path)
        process.send_signal(signal.SIGKILL)
        until(lambda: not listens(path), within=20)


def listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(path) == 0
