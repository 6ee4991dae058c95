"""Sending: what is sent, when a connection is reused, and what each failure means."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests.exceptions

from callbacks.cli.receiver import Receiver, Response
from callbacks.delivery import pool as idle_pool
from callbacks.delivery.deadline import Step, Stopwatch
from callbacks.delivery.deadline_socket import HandshakeFailed
from callbacks.delivery.dialer import ConnectTimedOut, Unreachable, open_socket
from callbacks.delivery.faults import detail_of, reason_of
from callbacks.delivery.guard import Address, BlockedAddress
from callbacks.delivery.reply import BadReply, HeadTooLarge, Reply
from callbacks.delivery.transport import Transport
from callbacks.model import Reason, Steps
from tests.http import hostile
from tests.http.conftest import SLACK_S, MakeTransport
from tests.http.hostile import OK, Hostile

BODY = b'{"type":"x","data":"\xc3\xa9"}'


def test_the_request_is_what_was_asked_for(transport: Transport) -> None:
    headers = {"content-type": "application/json", "user-agent": "callbacks/1", "webhook-id": "i"}
    with Receiver() as receiver:
        answer = transport.post(receiver.url("/a%20b/c?d=e&f=%2F"), headers, BODY)
        (hit,) = receiver.hits
    assert (answer.status, answer.fault, answer.detail) == (200, None, "")
    assert (hit.method, hit.path, hit.body) == ("POST", "/a%20b/c?d=e&f=%2F", BODY)
    assert dict(hit.headers) == headers | {
        "host": f"127.0.0.1:{receiver.port}",
        "accept-encoding": "identity",
        "content-length": str(len(BODY)),
    }


def test_an_empty_body_has_a_length(transport: Transport) -> None:
    with Receiver() as receiver:
        assert transport.post(receiver.url(), {}, b"").status == 200
        assert receiver.hits[0].headers["content-length"] == "0"


@pytest.mark.parametrize(
    "status", [200, 201, 204, 299, 301, 302, 304, 400, 404, 410, 429, 500, 599]
)
def test_the_status_is_the_verdict(transport: Transport, status: int) -> None:
    with Receiver(behaviour=lambda _: Response(status)) as receiver:
        answer = transport.post(receiver.url(), {}, BODY)
    assert (answer.status, answer.fault) == (status, None)


@pytest.mark.parametrize("value", ["120", "Wed, 21 Oct 2026 07:28:00 GMT", "soon", ""])
def test_retry_after_is_passed_on_as_it_came(transport: Transport, value: str) -> None:
    reply = Response(503, (("Retry-After", value),))
    with Receiver(behaviour=lambda _: reply) as receiver:
        assert transport.post(receiver.url(), {}, BODY).retry_after == value


def test_the_duration_is_measured(transport: Transport) -> None:
    with Receiver(behaviour=lambda _: Response(delay_s=0.2)) as receiver:
        assert 0.2 <= transport.post(receiver.url(), {}, BODY).duration < 4


def test_every_step_is_measured_and_an_open_connection_takes_few(
    make_transport: MakeTransport,
) -> None:
    def resolve(_host: str, _port: int) -> list[str]:
        time.sleep(0.1)
        return ["127.0.0.1"]

    def connect(address: Address, port: int, timeout_s: float) -> socket.socket:
        time.sleep(0.05)
        return open_socket(address, port, timeout_s)

    transport = make_transport(resolve=resolve, connect=connect)
    with Receiver(behaviour=lambda _: Response(delay_s=0.15)) as receiver:
        url = f"http://customer.example:{receiver.port}/"
        first, second = (transport.post(url, {}, BODY) for _ in range(2))
    assert first.steps
    assert second.steps
    assert (first.steps.reused, second.steps.reused) == (False, True)
    assert first.steps.lookup >= 0.099
    assert first.steps.connect >= 0.049
    assert min(first.steps.answer, second.steps.answer) >= 0.1
    assert sum(first.steps[:5]) <= first.duration + 1e-9
    assert second.steps[:3] == (0, 0, 0)


def test_the_step_that_fails_has_the_time_until_then(make_transport: MakeTransport) -> None:
    def connect(_address: Address, _port: int, _timeout_s: float) -> socket.socket:
        time.sleep(0.1)
        raise ConnectionRefusedError(111, "refused")

    answer = make_transport(connect=connect).post("http://127.0.0.1:1/", {}, BODY)
    assert answer.fault is Reason.CONNECT
    assert answer.steps
    assert (answer.steps.reused, answer.steps[2:5]) == (None, (0, 0, 0))
    assert 0.099 <= answer.steps.connect <= answer.duration


def test_steps_are_rounded_so_that_they_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0.0, 0.0004, 0.0008, 0.0012, 0.0016])
    monkeypatch.setattr(time, "monotonic", lambda: next(ticks))
    watch = Stopwatch()
    for step in (Step.LOOKUP, Step.CONNECT, Step.REQUEST, Step.ANSWER):
        watch.enter(step)
    monkeypatch.undo()
    assert watch.steps(0.0026) == Steps(
        0.001, 0, 0, 0.001, 0.001
    )  # 0.4 to 0.8, to 1.2, to 1.6, to 2.6 ms


@pytest.mark.parametrize(
    ("headers", "body", "error"),
    [
        ({"x": "a\r\ny: b"}, b"", requests.exceptions.InvalidHeader),
        ({"x\n": "a"}, b"", requests.exceptions.InvalidHeader),
        ({}, "text", TypeError),
        ({}, None, TypeError),
    ],
)
def test_what_the_caller_did_wrong_is_raised(
    transport: Transport, headers: dict[str, str], body: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        transport.post("http://127.0.0.1:1/", headers, body)


def test_a_port_where_nobody_listens_is_a_connect_fault(transport: Transport) -> None:
    with hostile.refusing_port() as port:
        answer = transport.post(f"http://127.0.0.1:{port}/secret?token=planted", {}, BODY)
    assert (answer.status, answer.fault) == (None, Reason.CONNECT)
    assert answer.detail == os.strerror(111 if sys.platform == "linux" else 61)


# Connections that are reused


def test_a_connection_is_used_again(transport: Transport) -> None:
    with Hostile(hostile.answers(*[OK] * 5)) as server:
        for _ in range(5):
            assert transport.post(server.url(), {}, BODY).status == 200
        assert len(server.conversations) == 1


def test_each_origin_has_connections_of_its_own(transport: Transport) -> None:
    with Hostile(hostile.answers(OK)) as one, Hostile(hostile.answers(OK)) as other:
        for server in (one, other):
            assert transport.post(server.url(), {}, BODY).status == 200
            assert len(server.conversations) == 1
        assert transport.adapter.idle_connections() == 2


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: x, CLOSE\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nkeep-alive: timeout=1\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 204 OK\r\ncontent-length: 5\r\n\r\n",
    ],
)
def test_a_connection_is_closed_where_the_reply_says_so(transport: Transport, reply: bytes) -> None:
    with Hostile(hostile.answers(reply, OK)) as server:
        for _ in range(2):
            transport.post(server.url(), {}, BODY)
        assert len(server.conversations) == 2
        assert server.conversations[0].saw_end.wait(2)


def test_a_connection_that_the_receiver_has_closed_is_not_used_again(
    transport: Transport,
) -> None:
    with Hostile(hostile.answers_and_closes(OK)) as server:
        for number in range(3):
            assert transport.post(server.url(), {}, BODY).status == 200
            assert len(server.conversations) == number + 1
            wait_until(lambda: transport.adapter.idle_connections() == 0)


def test_a_request_that_meets_a_closing_connection_is_a_reset_and_is_not_sent_again(
    transport: Transport,
) -> None:
    def script(talk: hostile.Conversation) -> None:
        talk.read_request()
        talk.send(OK)
        talk.read_request()
        talk.sock.close()

    with Hostile(script) as server:
        assert transport.post(server.url(), {}, BODY).status == 200
        answer = transport.post(server.url(), {}, BODY)
        assert len(server.conversations) == 1
    assert answer.fault is Reason.RESET


@pytest.mark.parametrize(("announced", "limit_s"), [(None, 30.0), ("timeout=5, max=9", 4.0)])
def test_a_connection_that_idled_too_long_is_not_used_again(
    transport: Transport, monkeypatch: pytest.MonkeyPatch, announced: str | None, limit_s: float
) -> None:
    headers = (("keep-alive", announced),) if announced else ()
    now = time.monotonic()
    clock = [now]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    with Hostile(hostile.answers(*[raw(Response(headers=headers))] * 9)) as server:
        transport.post(server.url(), {}, BODY)
        clock[0] += limit_s - 0.1
        transport.post(server.url(), {}, BODY)
        assert len(server.conversations) == 1
        clock[0] += limit_s
        transport.post(server.url(), {}, BODY)
        assert len(server.conversations) == 2


def test_the_bytes_of_a_body_over_the_limit_are_not_waited_for(
    make_transport: MakeTransport,
) -> None:
    def script(talk: hostile.Conversation) -> None:
        size = int(talk.read_request().rpartition(b"\r\n\r\n")[2])
        talk.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        talk.pause(0.1)
        talk.send(bytes(size))

    transport = make_transport(max_response_bytes=100)
    for size, kept in ((b"100", 1), (b"101", 0)):
        with Hostile(script) as server:
            assert transport.post(server.url(), {}, size).status == 200
            assert transport.adapter.idle_connections() == kept
        transport.adapter.reset_after_fork()


def test_many_hosts_leave_a_bounded_number_of_connections(
    make_transport: MakeTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idle_pool, "MAX_IDLE", 20)
    with Receiver(keep=1) as receiver:
        transport = make_transport(resolve=lambda _host, _port: ["127.0.0.1"])
        before = open_descriptors()
        with ThreadPoolExecutor(8) as pool:
            urls = [f"http://host-{number}.example:{receiver.port}/" for number in range(1_000)]
            answers = pool.map(lambda url: transport.post(url, {}, BODY), urls)
            assert {answer.status for answer in answers} == {200}
        assert transport.adapter.idle_connections() == 20
        # Both ends are in this process; the receiver's may take a moment to close.
        wait_until(lambda: open_descriptors() <= before + 2 * 20)


def test_one_host_leaves_a_bounded_number_of_connections(
    make_transport: MakeTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idle_pool, "MAX_IDLE", 3)
    transport = make_transport()
    with (
        Receiver(behaviour=lambda _: Response(delay_s=0.2)) as receiver,
        ThreadPoolExecutor(9) as pool,
    ):
        answers = list(pool.map(lambda _: transport.post(receiver.url(), {}, BODY), range(9)))
        assert {answer.status for answer in answers} == {200}
        assert transport.adapter.idle_connections() == 3


def test_64_threads_share_one_transport_and_each_gets_its_own_answer(
    transport: Transport,
) -> None:
    def behave(hit: Any) -> Response:
        return Response(200 + int(hit.body) % 99, body=hit.body)

    with Receiver(behaviour=behave) as receiver, ThreadPoolExecutor(64) as pool:
        numbers = range(2_000)
        answers = pool.map(
            lambda number: transport.post(receiver.url(), {}, str(number).encode()), numbers
        )
        assert [answer.status for answer in answers] == [200 + n % 99 for n in numbers]
        assert len(receiver.hits) == 2_000


def test_closing_closes_what_is_idle_and_what_comes_back_later(
    make_transport: MakeTransport,
) -> None:
    transport = make_transport()
    with Hostile(hostile.answers(OK)) as server:
        transport.post(server.url(), {}, BODY)
        transport.close()
        assert server.all_ended()
    with Hostile(hostile.answers(OK)) as server:
        assert transport.post(server.url(), {}, BODY).status == 200
        assert server.all_ended()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_uses_no_connection_and_no_lock_of_its_parent(
    make_transport: MakeTransport,
) -> None:
    transport = make_transport(resolve=lambda _host, _port: ["127.0.0.1"])
    with Receiver() as receiver:
        url = receiver.url()
        assert transport.post(url, {}, BODY).status == 200
        adapter = transport.adapter
        with adapter._idle._lock, adapter._dialer.lookups._calls._changed:  # as other threads might
            child = os.fork()
            if child == 0:
                code = 1
                with contextlib.suppress(BaseException):
                    is_fresh = transport.adapter.idle_connections() == 0
                    urls = [url, url.replace("127.0.0.1", "name.example")]
                    statuses = [transport.post(each, {}, BODY).status for each in urls]
                    code = 0 if is_fresh and statuses == [200, 200] else 1
                os._exit(code)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert transport.adapter.idle_connections() == 1
        assert transport.post(url, {}, BODY).status == 200  # on the previous connection
        assert len(receiver.hits) == 4


def test_an_exception_thrown_into_the_thread_comes_out_and_frees_the_connection(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any) -> None:
        raise SystemExit

    with Hostile(hostile.answers(OK)) as server:
        monkeypatch.setattr(Reply, "feed", stop)
        with pytest.raises(SystemExit):
            transport.post(server.url(), {}, BODY)
        assert server.all_ended()


# What an exception means


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (BlockedAddress("x"), Reason.BLOCKED_ADDRESS),
        (HeadTooLarge("x"), Reason.TOO_LARGE),
        (BadReply("x"), Reason.PROTOCOL),
        (Unreachable(1, "x"), Reason.CONNECT),
        (TimeoutError(), Reason.TIMEOUT),
        (ConnectTimedOut(), Reason.TIMEOUT),
        (socket.gaierror(), Reason.DNS),
        (ssl.SSLError(), Reason.TLS),
        (HandshakeFailed("x"), Reason.TLS),
        (ssl.SSLCertVerificationError(), Reason.TLS),
        (ssl.SSLEOFError(), Reason.RESET),
        (ssl.SSLZeroReturnError(), Reason.RESET),
        (ConnectionResetError(), Reason.RESET),
        (ConnectionAbortedError(), Reason.RESET),
        (BrokenPipeError(), Reason.RESET),
        (OSError(), Reason.CONNECT),
        (UnicodeError(), Reason.DNS),
        (ValueError(), Reason.PROTOCOL),
        (KeyError(), Reason.PROTOCOL),
        (RuntimeError(), Reason.PROTOCOL),
        (MemoryError(), Reason.PROTOCOL),
    ],
)
def test_an_exception_means(error: Exception, reason: Reason) -> None:
    assert reason_of(error) is reason


@pytest.mark.parametrize("kind", [KeyError, RecursionError, ValueError, AttributeError])
def test_what_nobody_expected_is_an_answer_that_names_the_place_and_not_the_text(
    transport: Transport, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    def fail(*_: Any) -> None:
        raise kind("planted")

    monkeypatch.setattr(Reply, "feed", fail)
    with Hostile(hostile.answers(OK)) as server:
        answer = transport.post(server.url(), {}, BODY)
        assert answer.fault is Reason.PROTOCOL
        assert answer.detail.startswith(f"{kind.__name__} in test_transport.py:")
        assert server.all_ended()


SECRETS = ("planted-path", "planted-query", "planted-user", "planted-header", "planted-body")


@pytest.mark.parametrize(
    "start",
    [
        "http://planted-user@127.0.0.1:{port}",
        "http://planted-user@127.0.0.1:99999",
        "http://planted-user@[::1",
        "http://planted-user@nowhere..invalid",
        "nothing://planted-user@127.0.0.1",
        "http://planted-user@10.0.0.1",
        "https://planted-user@127.0.0.1:{port}",
    ],
)
def test_no_secret_is_in_a_detail_or_logged(
    make_transport: MakeTransport, caplog: pytest.LogCaptureFixture, start: str
) -> None:
    caplog.set_level(logging.DEBUG)
    garbage = b"HTTP/1.1 planted-body\r\n\r\n"
    transport = make_transport(resolve=lambda host, _port: [host], connect_timeout=0.5)
    with Hostile(hostile.answers_and_closes(garbage)) as server:
        url = start.format(port=server.port) + "/planted-path?token=planted-query"
        answer = transport.post(url, {"authorization": "planted-header"}, b"planted-body")
    assert answer.fault is not None
    shown = repr(answer) + repr(transport) + caplog.text
    assert not [secret for secret in SECRETS if secret in shown]


def test_a_detail_is_one_short_line() -> None:
    assert detail_of(BadReply("a\r\nb" + "c" * 999)) == "a b" + "c" * 197
    assert detail_of(OSError(5, "Input/output error")) == "Input/output error"
    assert detail_of(KeyError("planted")) == "KeyError in an unknown place"
    assert detail_of(ssl.SSLError()) == "TLS failed: unknown reason"
    assert detail_of(HandshakeFailed("one line")) == "one line"


def test_making_one_starts_no_thread_and_opens_nothing(make_transport: MakeTransport) -> None:
    threads, descriptors = set(threading.enumerate()), open_descriptors()
    make_transport()
    assert set(threading.enumerate()) <= threads  # a thread of an earlier test may end meanwhile
    assert open_descriptors() == descriptors


def raw(reply: Response) -> bytes:
    lines = [f"HTTP/1.1 {reply.status} X", f"content-length: {len(reply.body)}"]
    lines += [f"{name}: {value}" for name, value in reply.headers]
    return "\r\n".join([*lines, "", ""]).encode() + reply.body


def open_descriptors() -> int:
    folder = Path("/proc/self/fd" if sys.platform == "linux" else "/dev/fd")
    return sum(1 for _ in folder.iterdir())


def wait_until(holds: Any, timeout_s: float = 5.0) -> None:
    ends_at = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < ends_at
        time.sleep(0.005)


@pytest.fixture(autouse=True)
def leaves_no_descriptor_open() -> Iterator[None]:
    before = open_descriptors()
    yield
    wait_until(lambda: open_descriptors() <= before)


@pytest.mark.parametrize("close", [False, True])
@pytest.mark.parametrize("status", [302, 401, 503])
def test_what_a_failure_says_is_kept(transport: Transport, status: int, close: bool) -> None:
    said = Response(status, body="no: é".encode() + b"." * 5_000, close=close)
    with Receiver(behaviour=lambda _: said) as receiver:
        answer = transport.post(receiver.url(), {}, BODY)
        assert answer.said.startswith("no: é...")
        assert len(answer.said.encode()) == 2_048
        assert transport.adapter.idle_connections() == (0 if close else 1)


def test_what_a_success_says_is_not_kept(transport: Transport) -> None:
    with Receiver(behaviour=lambda _: Response(200, body=b"thanks")) as receiver:
        assert transport.post(receiver.url(), {}, BODY).said == ""


def test_a_body_that_is_encoded_although_it_must_not_be_says_nothing(transport: Transport) -> None:
    said = Response(500, (("content-encoding", "gzip"),), hostile.gzip_bomb()[:1_000])
    with Receiver(behaviour=lambda _: said) as receiver:
        assert transport.post(receiver.url(), {}, BODY).said == ""


def test_a_failure_whose_body_does_not_end_is_not_waited_for(transport: Transport) -> None:
    script = hostile.drips(b"HTTP/1.1 401 No\r\ncontent-length: 900\r\n\r\nbad token", b"x")
    with Hostile(script) as receiver:
        began = time.monotonic()
        answer = transport.post(receiver.url(), {}, BODY)
        assert time.monotonic() - began < 1 + SLACK_S
    assert (answer.status, answer.said[:9]) == (401, "bad token")
