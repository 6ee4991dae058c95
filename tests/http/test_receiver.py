"""The receiver for demos and tests does what it is told, for many at once."""

from __future__ import annotations

import base64
import contextlib
import re
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import pytest
import requests

from callbacks.cli import receiver as receivers
from callbacks.cli.receiver import Behaviour, Hit, Receiver, Response
from callbacks.cli.receiver.faults import first_answer, read_fault
from callbacks.delivery.callback import AICallback
from callbacks.model import Reason
from callbacks.request.signature import sign, verify
from callbacks.settings import load_settings

SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()


def answered(behaviour: Behaviour, count: int = 1, path: str = "/") -> list[int]:
    with Receiver(behaviour=behaviour) as receiver, requests.Session() as session:
        headers = {"webhook-id": "one"}
        url = receiver.url(path)
        return [session.post(url, headers=headers).status_code for _ in range(count)]


def test_a_hit_tells_what_came_and_when() -> None:
    before_s, before_unix_s = time.monotonic(), time.time()
    with Receiver() as receiver:
        requests.post(receiver.url("/a?b=c"), data=b"body", headers={"X-Y": "z"}, timeout=5)
        (hit,) = receiver.hits
    assert (hit.method, hit.path, hit.body, hit.headers["x-y"]) == ("POST", "/a?b=c", b"body", "z")
    assert hit.signature_ok is None
    assert before_s <= hit.at_s <= time.monotonic()
    assert before_unix_s <= hit.time_s <= time.time()
    assert "body" not in repr(hit)


@pytest.mark.parametrize(
    ("secret", "ok"), [(SECRET, True), ("whsec_" + base64.b64encode(b"x" * 32).decode(), False)]
)
def test_signatures_are_checked(secret: str, ok: bool) -> None:
    timestamp = int(time.time())
    headers = {
        "webhook-id": "one",
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign([secret], "one", timestamp, b"body"),
    }
    with Receiver(secrets=[SECRET], verify=verify) as receiver:
        requests.post(receiver.url(), data=b"body", headers=headers, timeout=5)
        assert [hit.signature_ok for hit in receiver.hits] == [ok]


def test_what_cannot_be_checked_is_not_signed() -> None:
    def fail(_s: Sequence[str], _h: Mapping[str, str], _b: bytes, _now_s: float) -> None:
        raise KeyError

    with Receiver(verify=fail) as receiver:
        assert requests.post(receiver.url(), timeout=5).status_code == 200
        assert receiver.hits[0].signature_ok is False


def test_behaviours() -> None:
    assert answered(receivers.status(418)) == [418]
    assert answered(receivers.fail_first(2, 503), 4) == [503, 503, 200, 200]
    started = time.monotonic()
    assert answered(receivers.slow(0.2, 202)) == [202]
    assert time.monotonic() - started >= 0.2
    with pytest.raises(requests.ConnectionError):
        answered(receivers.drop())


def test_fail_first_counts_for_each_id() -> None:
    behave = receivers.fail_first(1, 500)
    hits = [hit_of(id) for id in ("a", "b", "a", "b")]
    assert [behave(hit).status for hit in hits] == [500, 500, 200, 200]


def test_a_limited_receiver_lets_its_rate_through() -> None:
    now = 0.0
    behave = receivers.limited(3, clock=lambda: now)
    statuses = []
    for tick in range(100):  # ten a second for ten seconds
        now = tick / 10
        statuses.append(behave(hit_of("x")).status)
    # A burst of 3, then 3 a second for 9.9 s: 32 of the 29.7 + 3 allowed.
    assert statuses.count(200) == 32
    assert statuses.count(429) == 68
    assert behave(hit_of("x")).headers == (("retry-after", "1"),)


def test_behaviours_by_path() -> None:
    behave = receivers.by_path({"bad": receivers.status(500)}, receivers.status(204))
    paths = ["/bad", "/bad/7", "/bad?x", "/good/bad", "/", "*"]
    assert [behave(hit_of("x", path)).status for path in paths] == [500, 500, 500, 204, 204, 204]


def test_only_the_last_hits_are_kept() -> None:
    with Receiver(keep=2) as receiver, requests.Session() as session:
        for number in range(5):
            session.post(receiver.url(f"/{number}"))
        assert [hit.path for hit in receiver.hits] == ["/3", "/4"]


def test_a_reply_has_what_it_was_given() -> None:
    reply = Response(429, (("retry-after", "7"),), b"slow down", close=True)
    with Receiver(behaviour=lambda _: reply) as receiver:
        response = requests.post(receiver.url(), timeout=5)
    assert (response.status_code, response.content) == (429, b"slow down")
    assert response.headers["retry-after"] == "7"
    assert response.headers["connection"] == "close"


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"POST / HTTP/2\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nno field\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\ncontent-length\r\nx: y\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nx: y\r\nno field\r\nx: y\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n", b"413"),
        (b"POST / HTTP/1.1\r\ncontent-length: 99999999999\r\n\r\n", b"413"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"413"),
    ],
)
def test_what_is_no_request_is_refused(request_bytes: bytes, status: bytes) -> None:
    with Receiver() as receiver, socket.create_connection((receiver.host, receiver.port)) as sock:
        sock.sendall(request_bytes)
        assert sock.recv(999).split(b" ")[1] == status
        assert sock.recv(1) == b""
        assert receiver.hits == []


def test_headers_are_those_that_came() -> None:
    head = b"X-A:  b:c \r\nx-content-length: 9\r\nCONTENT-LENGTH: 2\r\nx-a: \xe9\r\n\r\n"
    with Receiver() as receiver, socket.create_connection((receiver.host, receiver.port)) as sock:
        sock.sendall(b"POST / HTTP/1.1\r\n" + head + b"hi")
        assert sock.recv(999).startswith(b"HTTP/1.1 200 ")
        (hit,) = receiver.hits
    assert hit.headers == {"x-a": "é", "x-content-length": "9", "content-length": "2"}
    assert hit.body == b"hi"


@pytest.mark.parametrize(("value", "ends"), [(b"Close", True), (b"keep-alive", False)])
def test_a_sender_that_wants_no_more_is_let_go(value: bytes, ends: bool) -> None:
    with Receiver() as receiver, socket.create_connection((receiver.host, receiver.port)) as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nConnection: " + value + b"\r\n\r\n")
        sock.recv(999)
        sock.settimeout(5 if ends else 0.05)
        with contextlib.nullcontext() if ends else pytest.raises(TimeoutError):
            assert sock.recv(1) == b""


WHOLE = b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody"


@pytest.mark.parametrize("cut", [1, 20, len(WHOLE) - 4, len(WHOLE) - 1])
def test_a_request_in_two_parts_is_taken_and_answered_once(cut: int) -> None:
    with Receiver() as receiver, socket.create_connection((receiver.host, receiver.port)) as sock:
        sock.sendall(WHOLE[:cut])
        assert not receiver.wait_for_hits(1, timeout_s=0.05)
        sock.sendall(WHOLE[cut:])
        assert sock.recv(999).count(b"200 OK") == 1
        assert [hit.body for hit in receiver.hits] == [b"body"]


@pytest.mark.parametrize("delay_s", [0, 0.01])
def test_three_requests_in_one_part_are_answered_one_after_the_other(delay_s: float) -> None:
    codes = iter((201, 202, 203))
    behave = lambda _: Response(next(codes), delay_s=delay_s)  # noqa: E731
    with (
        Receiver(behaviour=behave) as receiver,
        socket.create_connection((receiver.host, receiver.port)) as sock,
        sock.makefile("rb") as answers,
    ):
        sock.sendall(WHOLE * 3)
        heads = [answers.readline() + answers.readline() + answers.readline() for _ in range(3)]
        assert [head.split(b" ")[1] for head in heads] == [b"201", b"202", b"203"]
        assert len(receiver.hits) == 3


def test_a_reply_waits_until_it_is_let_go() -> None:
    gate: Future[object] = Future()
    with (
        Receiver(behaviour=lambda _: Response(204, until=gate)) as receiver,
        socket.create_connection((receiver.host, receiver.port)) as sock,
    ):
        sock.sendall(WHOLE)
        assert receiver.wait_for_hits(1, timeout_s=5)
        sock.settimeout(0.05)
        with pytest.raises(TimeoutError):
            sock.recv(999)
        gate.set_result(None)
        sock.settimeout(5)
        assert sock.recv(999).startswith(b"HTTP/1.1 204 ")


def test_what_a_reply_waited_for_may_be_the_answer() -> None:
    gate: Future[object] = Future()
    reply = Response(204, until=gate, delay_s=0.1)
    with Receiver(behaviour=lambda _: reply) as receiver, connected(receiver) as sock:
        sock.sendall(WHOLE)
        assert receiver.wait_for_hits(1, timeout_s=5)
        ended_s = time.monotonic()
        gate.set_result(Response(201))
        assert sock.recv(999).startswith(b"HTTP/1.1 201 ")
        assert time.monotonic() - ended_s >= 0.1


@pytest.mark.parametrize("how", ["cancel", "fail"])
def test_a_reply_is_answered_where_nothing_comes_of_what_it_waited_for(how: str) -> None:
    gate: Future[object] = Future()
    with (
        Receiver(behaviour=lambda _: Response(204, until=gate)) as receiver,
        connected(receiver) as sock,
    ):
        sock.sendall(WHOLE)
        assert receiver.wait_for_hits(1, timeout_s=5)
        if how == "cancel":
            gate.cancel()
        else:
            gate.set_exception(OSError())
        assert sock.recv(999).startswith(b"HTTP/1.1 204 ")


def test_a_reset_is_one() -> None:
    with (
        Receiver(behaviour=lambda _: Response(reset=True)) as receiver,
        connected(receiver) as sock,
    ):
        sock.sendall(WHOLE)
        with pytest.raises(ConnectionResetError):
            sock.recv(1)


@pytest.mark.parametrize("close", [True, False])
def test_a_reply_drips_byte_by_byte_and_the_next_one_follows(close: bool) -> None:
    reply = Response(200, body=b"hi", drip_s=0.001, close=close)
    with Receiver(behaviour=lambda _: reply) as receiver, connected(receiver) as sock:
        sock.sendall(WHOLE * 2)
        came = b""
        while came.count(b"hi") < (1 if close else 2):
            came += sock.recv(1)
        assert came == reply.encoded * (1 if close else 2)
        assert len(receiver.hits) == (1 if close else 2)


def test_a_sender_may_leave_while_a_reply_drips() -> None:
    with Receiver(behaviour=lambda _: Response(drip_s=0.001)) as receiver:
        with connected(receiver) as sock:
            sock.sendall(WHOLE)
            assert sock.recv(1) == b"H"
        assert requests.post(receiver.url(), timeout=5).status_code == 200


# Faults


def answers_of(text: str, count: int, **more: Any) -> list[Response | None]:
    fault = read_fault(text, **more)
    return [fault.answer(hit_of("x")) for _ in range(count)]


@pytest.mark.parametrize(("text", "status"), [("410", 410), ("status:401", 401), ("503:1", 503)])
def test_a_fault_may_be_a_status(text: str, status: int) -> None:
    assert answers_of(text, 2) == [Response(status)] * 2


def test_a_fault_may_hit_a_share_of_the_requests() -> None:
    drawn = iter([0.0, 0.19, 0.2, 0.99])
    hit = [bool(each) for each in answers_of("503:0.2", 4, chance=lambda: next(drawn))]
    assert hit == [True, True, False, False]
    assert answers_of("hang:0", 3) == [None] * 3


def test_a_fault_may_hit_what_is_above_a_rate() -> None:
    came = answers_of("429:2/s", 4)
    assert came[:2] == [None, None]
    assert came[2:] == [Response(429, (("retry-after", "1"),))] * 2


def test_hang_drip_and_reset_are_faults() -> None:
    (hang,), (drip,), (reset,) = (answers_of(text, 1) for text in ("hang", "drip", "reset"))
    assert hang is not None
    assert hang.until is not None
    assert not hang.until.done()
    assert (drip, reset) == (Response(drip_s=1.0), Response(reset=True))


def test_slow_delays_and_answers_nothing_itself() -> None:
    fault = read_fault("slow:2.5")
    assert (fault.delay_s, fault.answer(hit_of("x"))) == (2.5, None)


def test_the_first_fault_that_does_not_spare_a_request_answers_it() -> None:
    faults = [read_fault(text) for text in ("slow:1", "503:0", "410", "reset")]
    assert first_answer(faults, hit_of("x")) == (Response(410), "410")
    assert first_answer(faults[:2], hit_of("x")) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [("hang", Reason.TIMEOUT), ("drip", Reason.TIMEOUT), ("reset", Reason.RESET)],
)
def test_a_sender_sees_each_fault_for_what_it_is(text: str, reason: Reason) -> None:
    deadline = {"CALLBACKS_DEADLINE": "0.3", "CALLBACKS_ALLOWED_NETWORKS": "127.0.0.0/8"}
    settings, fault = load_settings(deadline), read_fault(text)
    with Receiver(behaviour=lambda hit: fault.answer(hit) or Response()) as receiver:
        answer = AICallback(receiver.url(), None, settings=settings).send()
    assert (answer.status, answer.fault) == (None, reason)


NO_FAULTS = (
    "", "nonsense", "slow", "slow:", "slow:-1", "199", "600", "503:", "503:2", "503:20%",
    "429:0/s", "429:3/m", "hang:3/s", "status", "status:9", "status:hang",
)  # fmt: skip


@pytest.mark.parametrize("text", NO_FAULTS)
def test_what_is_no_fault_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{text!r} is not a fault; expected")):
        read_fault(text)


@pytest.mark.parametrize("sent", [b"", b"POST / HT", b"x" * 200_000, b"POST / HTTP/1.1\r\n"])
def test_a_sender_that_leaves_does_no_harm(sent: bytes) -> None:
    with Receiver() as receiver:
        with socket.create_connection((receiver.host, receiver.port)) as sock:
            sock.sendall(sent)
        assert requests.post(receiver.url(), timeout=5).status_code == 200


def test_many_connections_are_open_at_once() -> None:
    with Receiver() as receiver:
        socks = [socket.create_connection((receiver.host, receiver.port)) for _ in range(300)]
        try:
            for sock in socks:
                sock.sendall(b"POST / HTTP/1.1\r\ncontent-length: 2\r\n\r\nhi")
            assert receiver.wait_for_hits(300, timeout_s=10)
            assert not receiver.wait_for_hits(301, timeout_s=0)
        finally:
            for sock in socks:
                sock.close()


def test_a_port_in_use_is_reported() -> None:
    with (
        Receiver() as receiver,
        pytest.raises(OSError, match="in use"),
        Receiver(port=receiver.port),
    ):
        pass
    with pytest.raises(OverflowError), Receiver(port=99_999):
        pass


def test_it_ends_with_its_context_and_leaves_no_thread() -> None:
    with Receiver(behaviour=receivers.slow(60)) as receiver:
        sock = socket.create_connection((receiver.host, receiver.port))
        sock.sendall(b"POST / HTTP/1.1\r\n\r\n")
        assert receiver.wait_for_hits(1, timeout_s=5)
    assert "receiver" not in {thread.name for thread in threading.enumerate()}
    with sock, contextlib.suppress(ConnectionResetError):
        sock.settimeout(5)
        assert sock.recv(1) == b""


def connected(receiver: Receiver) -> socket.socket:
    return socket.create_connection((receiver.host, receiver.port), timeout=5)


def hit_of(id: str, path: str = "/") -> Hit:
    return Hit(0.0, 0.0, "POST", path, {"webhook-id": id}, b"")
