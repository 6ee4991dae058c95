"""Whatever a receiver does, the attempt ends in time, with the right verdict, and leaks nothing."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import pytest

from callbacks.delivery import connection
from callbacks.delivery.transport import Transport
from callbacks.model import Reason
from tests.http import hostile
from tests.http.conftest import DEADLINE_S, SLACK_S, MakeTransport
from tests.http.hostile import ERROR, OK, Hostile, Script

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"
FOUND = b"HTTP/1.1 302 Found\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
PROCESSING = b"HTTP/1.1 102 Processing\r\n\r\n"

# What never ends by itself, or only long after the deadline.
ENDLESS: dict[str, tuple[Script, int | Reason]] = {
    "silence": (hostile.silence, Reason.TIMEOUT),
    "dripped status line": (hostile.drips(b"", HEAD * 10), Reason.TIMEOUT),
    "dripped head": (hostile.drips(HEAD, b"x: y\r\n" * 20), Reason.TIMEOUT),
    "dripped body": (hostile.drips(HEAD + b"content-length: 99\r\n\r\n", b"z" * 99), 200),
    "dripped 302 body": (hostile.drips(FOUND + b"content-length: 99\r\n\r\n", b"z" * 99), 302),
    "dripped chunk": (hostile.drips(CHUNKED + b"63\r\n", b"z" * 99), 200),
    "dripped chunk size": (hostile.drips(CHUNKED, b"0" * 99), 200),
    "dripped trailer": (hostile.drips(CHUNKED + b"0\r\n", b"x: y\r\n" * 20), 200),
    "endless small chunks": (hostile.repeats(CHUNKED, b"1\r\nz\r\n", pause_s=0.01), 200),
    "endless header fields": (hostile.repeats(HEAD, b"x: y\r\n", pause_s=0.02), Reason.TIMEOUT),
    "body never comes": (hostile.answers(HEAD + b"content-length: 5\r\n\r\n"), 200),
    "body ends with a close that never comes": (hostile.answers(HEAD + b"\r\nabc"), 200),
    "100 Continue, then nothing": (hostile.answers(CONTINUE), Reason.TIMEOUT),
    "100 Continue, dripped": (hostile.drips(b"", CONTINUE * 10), Reason.TIMEOUT),
    "request is not read to its end": (hostile.reads_slowly, Reason.TIMEOUT),
}

# What ends at once, on either side.
PROMPT: dict[str, tuple[Script, int | Reason]] = {
    "endless fast chunks": (hostile.repeats(CHUNKED, b"1\r\nz\r\n" * 500), 200),
    "endless fast body": (hostile.repeats(HEAD + b"\r\n", b"z" * 9_999), 200),
    "endless fast header fields": (hostile.repeats(HEAD, b"x: y\r\n" * 9), Reason.TOO_LARGE),
    "endless header field": (hostile.repeats(HEAD + b"x: ", b"z" * 999), Reason.TOO_LARGE),
    "endless status line": (hostile.repeats(b"HTTP/1.1 200 ", b"z" * 999), Reason.PROTOCOL),
    "endless 100 Continue": (hostile.repeats(b"", CONTINUE), Reason.PROTOCOL),
    "endless 103 Early Hints": (hostile.repeats(b"", HINTS), Reason.PROTOCOL),
    "101 Switching Protocols": (
        hostile.answers(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n" + OK),
        Reason.PROTOCOL,
    ),
    "head over 64 KB": (
        hostile.answers(HEAD + b"x: " + b"z" * 65_537 + b"\r\n\r\n"),
        Reason.TOO_LARGE,
    ),
    "head of many long fields": (
        hostile.answers(HEAD + (b"x: " + b"z" * 9_000 + b"\r\n") * 9 + b"\r\n"),
        Reason.TOO_LARGE,
    ),
    "200 header fields": (hostile.answers(HEAD + hostile.fields(200) + b"\r\n"), Reason.TOO_LARGE),
    "100 header fields": (
        hostile.answers(HEAD + hostile.fields(99) + b"content-length: 0\r\n\r\n"),
        200,
    ),
    "close before the request": (hostile.closes_at_once, Reason.RESET),
    "close": (hostile.closes, Reason.RESET),
    "RST": (hostile.answers_and_resets(b""), Reason.RESET),
    "RST in the status line": (hostile.answers_and_resets(b"HTTP/1.1 2"), Reason.RESET),
    "RST in the head": (hostile.answers_and_resets(HEAD + b"x: y\r\n"), Reason.RESET),
    "RST after 200": (hostile.answers_and_resets(HEAD + b"content-length: 9\r\n\r\n"), 200),
    "close in the head": (hostile.answers_and_closes(HEAD + b"x: y\r\n"), Reason.RESET),
    "close after 100 Continue": (hostile.answers_and_closes(CONTINUE), Reason.RESET),
    "truncated length": (hostile.answers_and_closes(HEAD + b"content-length: 9\r\n\r\nabc"), 200),
    "truncated chunk": (hostile.answers_and_closes(CHUNKED + b"9\r\nabc"), 200),
    "truncated 500": (
        hostile.answers_and_closes(b"HTTP/1.1 500 No\r\ncontent-length: 9\r\n\r\n"),
        500,
    ),
    "chunk size is no number": (hostile.answers(CHUNKED + b"xyz\r\nabc\r\n"), 200),
    "chunk size is negative": (hostile.answers(CHUNKED + b"-5\r\nabc\r\n"), 200),
    "chunk size is huge": (hostile.answers(CHUNKED + b"f" * 15 + b"\r\nabc"), 200),
    "chunk without its end": (hostile.answers(CHUNKED + b"1\r\nabcd\r\n"), 200),
    "two lengths": (
        hostile.answers(HEAD + b"content-length: 2\r\ncontent-length: 3\r\n\r\nok"),
        200,
    ),
    "negative length": (hostile.answers(HEAD + b"content-length: -2\r\n\r\nok"), 200),
    "length is no number": (hostile.answers(HEAD + b"content-length: 2x\r\n\r\nok"), 200),
    "length of 400 digits": (
        hostile.answers(HEAD + b"content-length: " + b"9" * 400 + b"\r\n\r\n"),
        200,
    ),
    "length and chunks": (
        hostile.answers(HEAD + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        200,
    ),
    "unknown transfer coding": (
        hostile.answers(HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        200,
    ),
    "a line that is no field": (hostile.answers(HEAD + b"nonsense\r\n\r\n"), 200),
    "a folded field": (hostile.answers(HEAD + b"x: y\r\n content-length: 2\r\n\r\n"), 200),
    "space before the colon": (hostile.answers(HEAD + b"content-length : 2\r\n\r\nok"), 200),
    "HTTP/0.9": (hostile.answers_and_closes(b"<html>hello</html>\n"), Reason.PROTOCOL),
    "HTTP/2 preface": (
        hostile.answers(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        Reason.PROTOCOL,
    ),
    "HTTP/2 frames": (
        hostile.answers_and_closes(b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x80\n"),
        Reason.PROTOCOL,
    ),
    "HTTP/2 status line": (hostile.answers(b"HTTP/2 200 OK\r\n\r\n"), Reason.PROTOCOL),
    "another protocol's banner": (hostile.answers(b"SSH-2.0-OpenSSH_9.6\r\n"), Reason.PROTOCOL),
    "status of two digits": (hostile.answers(b"HTTP/1.1 20 OK\r\n\r\n"), Reason.PROTOCOL),
    "status of four digits": (hostile.answers(b"HTTP/1.1 2000 OK\r\n\r\n"), Reason.PROTOCOL),
    "status 600": (hostile.answers(b"HTTP/1.1 600 OK\r\n\r\n"), Reason.PROTOCOL),
    "status 099": (hostile.answers(b"HTTP/1.1 099 OK\r\n\r\n"), Reason.PROTOCOL),
    "status +200": (hostile.answers(b"HTTP/1.1 +200 OK\r\n\r\n"), Reason.PROTOCOL),
    "status in other digits": (
        hostile.answers("HTTP/1.1 \uff12\uff10\uff10 OK\r\n\r\n".encode()),
        Reason.PROTOCOL,
    ),
    "no status": (hostile.answers(b"HTTP/1.1\r\n\r\n"), Reason.PROTOCOL),
    "an empty line first": (hostile.answers(b"\r\n" + OK), Reason.PROTOCOL),
    "zeros": (hostile.repeats(b"", bytes(9_999)), Reason.PROTOCOL),
    "gzip bomb": (hostile.answers(hostile.gzip_bomb()), 200),
    "gzip that is none": (
        hostile.answers(HEAD + b"content-encoding: gzip\r\ncontent-length: 2\r\n\r\nok"),
        200,
    ),
    "100 MB": (hostile.megabytes(100), 200),
    "extra bytes": (hostile.answers(OK + b"extra"), 200),
    "another reply": (hostile.answers(OK + ERROR), 200),
    "LF line ends": (hostile.answers(OK.replace(b"\r\n", b"\n")), 200),
    "no reason phrase": (hostile.answers(b"HTTP/1.1 204\r\n\r\n"), 204),
    "HTTP/1.0": (hostile.answers_and_closes(b"HTTP/1.0 200 OK\r\n\r\nok"), 200),
    "an odd status": (hostile.answers(b"HTTP/1.1 299 Odd\r\ncontent-length: 0\r\n\r\n"), 299),
    "410": (hostile.answers(b"HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n"), 410),
    "Set-Cookie without end": (
        hostile.answers(
            HEAD + b"set-cookie: a=b; expires=" + b"9" * 9_999 + b"\r\ncontent-length: 0\r\n\r\n"
        ),
        200,
    ),
    "redirect to metadata": (
        hostile.answers(FOUND + b"location: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n"),
        302,
    ),
    "redirect to itself": (
        hostile.answers(FOUND + b"location: /\r\ncontent-length: 0\r\n\r\n"),
        302,
    ),
    "307 elsewhere": (
        hostile.answers(
            b"HTTP/1.1 307 No\r\nlocation: http://127.0.0.2/\r\ncontent-length: 0\r\n\r\n"
        ),
        307,
    ),
    "broken Location": (
        hostile.answers(FOUND + b"location: http://[::1\r\ncontent-length: 0\r\n\r\n"),
        302,
    ),
    "Location of junk": (
        hostile.answers(FOUND + b"location: \xff\xfe://\x80\r\ncontent-length: 0\r\n\r\n"),
        302,
    ),
}


def expect(transport: Transport, url: str, verdict: int | Reason, body: bytes = b"{}") -> float:
    """Post once, compare with the verdict, and return the seconds it took."""
    started = time.monotonic()
    answer = transport.post(url, {"content-type": "application/json"}, body)
    took = time.monotonic() - started
    assert verdict in (answer.status, answer.fault), answer
    assert (answer.status is None) != (answer.fault is None)
    if answer.fault is not None:
        assert answer.detail
        assert "\n" not in answer.detail
    return took


@pytest.mark.parametrize("name", ENDLESS)
def test_an_attempt_ends_at_its_deadline(make_transport: MakeTransport, name: str) -> None:
    script, verdict = ENDLESS[name]
    # The read timeout exceeds the deadline: only the deadline ends these.
    transport = make_transport(read_timeout=30, deadline=DEADLINE_S)
    with Hostile(script) as server:
        took = expect(transport, server.url(), verdict, body=bytes(8_000_000))
        assert took < DEADLINE_S + SLACK_S
        assert server.all_ended()
    assert transport.adapter.idle_connections() == 0


@pytest.mark.parametrize("name", PROMPT)
def test_a_bad_reply_gets_the_right_verdict(transport: Transport, name: str) -> None:
    script, verdict = PROMPT[name]
    with Hostile(script) as server:
        assert expect(transport, server.url(), verdict) < SLACK_S


# Heads after which the connection is closed anyway: the body is not waited for.
UNKEPT = {
    "close": HEAD + b"connection: close\r\ncontent-length: 5\r\n\r\n",
    "close, in chunks": HEAD + b"connection: close\r\ntransfer-encoding: chunked\r\n\r\n",
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\n",
    "until close": HEAD + b"\r\nabc",
    "two lengths": HEAD + b"content-length: 5\r\ncontent-length: 6\r\n\r\n",
    "over the limit": HEAD + b"content-length: 65537\r\n\r\n",
    "for a second only": HEAD + b"keep-alive: timeout=1\r\ncontent-length: 5\r\n\r\n",
}


@pytest.mark.parametrize("name", UNKEPT)
def test_a_body_is_not_waited_for_where_the_connection_is_closed_anyway(
    transport: Transport, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(connection, "DRAIN_S", 8.0)
    with Hostile(hostile.answers(UNKEPT[name])) as server:
        assert expect(transport, server.url(), 200) < SLACK_S
        assert server.all_ended()


# Bodies that keep the connection open but do not end; the head decides.
UNENDING = {
    "hangs": hostile.answers(HEAD + b"content-length: 5\r\n\r\n"),
    "drips": hostile.drips(HEAD + b"content-length: 999\r\n\r\n", b"z" * 999),
    "drips chunks": hostile.repeats(CHUNKED, b"1\r\nz\r\n", pause_s=hostile.DRIP_S),
    "drips its trailer": hostile.drips(CHUNKED + b"0\r\n", b"x: y\r\n" * 99),
}


@pytest.mark.parametrize("name", UNENDING)
def test_a_body_that_does_not_end_is_given_up_soon_and_is_not_the_destinations_latency(
    make_transport: MakeTransport, name: str
) -> None:
    transport = make_transport(read_timeout=30, deadline=30)
    with Hostile(UNENDING[name]) as server:
        started = time.monotonic()
        answer = transport.post(server.url(), {}, b"")
        took = time.monotonic() - started
        assert connection.DRAIN_S <= took < connection.DRAIN_S + SLACK_S
        assert answer.status == 200
        assert answer.duration < took - 0.9 * connection.DRAIN_S
        assert server.all_ended()
    assert transport.adapter.idle_connections() == 0


KEPT = {
    "100 header fields",
    "LF line ends",
    "no reason phrase",
    "an odd status",
    "410",
    "gzip that is none",
    "gzip bomb",
    "Set-Cookie without end",
    "redirect to metadata",
    "redirect to itself",
    "307 elsewhere",
    "broken Location",
    "Location of junk",
}


@pytest.mark.parametrize("name", PROMPT)
def test_a_connection_is_kept_only_after_a_reply_with_a_clear_end(
    transport: Transport, name: str
) -> None:
    with Hostile(PROMPT[name][0]) as server:
        transport.post(server.url(), {}, b"{}")
        assert transport.adapter.idle_connections() == (name in KEPT)


def test_a_receiver_that_sends_nothing_for_the_read_timeout_is_given_up(
    make_transport: MakeTransport,
) -> None:
    transport = make_transport(read_timeout=0.2, deadline=30)
    with Hostile(hostile.silence) as server:
        assert expect(transport, server.url(), Reason.TIMEOUT) < 0.2 + SLACK_S
        assert server.all_ended()


@pytest.mark.parametrize("interim", [CONTINUE, HINTS, PROCESSING, CONTINUE + HINTS, HINTS * 8])
def test_an_interim_reply_is_never_the_verdict_nor_does_its_final_one_answer_the_next(
    transport: Transport, interim: bytes
) -> None:
    with Hostile(hostile.answers(interim + ERROR, OK)) as server:
        assert transport.post(server.url(), {}, b"1").status == 500
        assert transport.post(server.url(), {}, b"2").status == 200
        assert len(server.conversations) == 1


def test_a_late_final_reply_does_not_answer_the_next_request(transport: Transport) -> None:
    def script(talk: hostile.Conversation) -> None:
        talk.read_request()
        talk.send(HINTS)
        talk.pause(0.2)
        talk.send(ERROR)
        talk.read_request()
        talk.send(OK)

    with Hostile(script) as server:
        assert [transport.post(server.url(), {}, b"").status for _ in range(2)] == [500, 200]


def test_a_second_reply_that_comes_later_does_not_answer_the_next_request(
    transport: Transport,
) -> None:
    def script(talk: hostile.Conversation) -> None:
        talk.read_request()
        talk.send(OK)
        talk.pause(0.05)
        talk.send(ERROR)

    with Hostile(script) as server:
        for number in range(3):
            assert transport.post(server.url(), {}, b"").status == 200
            assert len(server.conversations) == number + 1
            time.sleep(0.2)


def test_a_reply_before_the_request_was_read_counts_but_its_connection_is_not_used_again(
    make_transport: MakeTransport,
) -> None:
    too_long = b"HTTP/1.1 413 Too Long\r\ncontent-length: 0\r\n\r\n"
    transport = make_transport(read_timeout=30, deadline=DEADLINE_S)
    with Hostile(hostile.replies_unread(too_long)) as server:
        took = expect(transport, server.url(), 413, body=bytes(16_000_000))
        assert took < DEADLINE_S + SLACK_S
        assert transport.adapter.idle_connections() == 0


def test_a_connection_that_answered_a_request_before_its_end_is_not_used_again(
    transport: Transport,
) -> None:
    def script(talk: hostile.Conversation) -> None:
        talk.read_head()
        talk.send(OK)

    with Hostile(script) as server:
        for number in range(2):
            assert transport.post(server.url(), {}, bytes(16_000_000)).status == 200
            assert len(server.conversations) == number + 1


def test_each_attempt_on_a_kept_connection_has_a_deadline_of_its_own(
    make_transport: MakeTransport,
) -> None:
    transport = make_transport(deadline=DEADLINE_S)
    with Hostile(hostile.answers(OK, OK)) as server:
        assert transport.post(server.url(), {}, b"").status == 200
        time.sleep(DEADLINE_S)
        assert transport.post(server.url(), {}, b"").status == 200
        assert len(server.conversations) == 1


def test_cookies_are_not_sent_back(transport: Transport) -> None:
    seen: list[bytes] = []

    def script(talk: hostile.Conversation) -> None:
        for _ in range(2):
            seen.append(talk.read_request())
            talk.send(HEAD + b"set-cookie: a=b\r\ncontent-length: 0\r\n\r\n")

    with Hostile(script) as server:
        for _ in range(2):
            assert transport.post(server.url(), {}, b"").status == 200
    assert len(seen) == 2
    assert not any(b"cookie" in request.lower() for request in seen)


def test_an_absurd_retry_after_is_passed_on_as_one_short_line(transport: Transport) -> None:
    head = b"HTTP/1.1 503 No\r\nretry-after: " + b"9" * 50 + b"\xa0" * 5_000 + b"\r\n"
    with Hostile(hostile.answers(head + b"content-length: 0\r\n\r\n")) as server:
        answer = transport.post(server.url(), {}, b"")
    assert answer.status == 503
    assert answer.retry_after == "9" * 50


def test_many_hanging_receivers_do_not_slow_down_a_prompt_one(
    make_transport: MakeTransport,
) -> None:
    transport = make_transport(read_timeout=30, deadline=SLACK_S + 1)
    with (
        Hostile(hostile.silence) as silent,
        Hostile(hostile.answers(*[OK] * 50)) as prompt,
        ThreadPoolExecutor(40) as pool,
    ):
        hanging = [pool.submit(transport.post, silent.url(), {}, b"") for _ in range(40)]
        started = time.monotonic()
        for _ in range(50):
            assert transport.post(prompt.url(), {}, b"").status == 200
        assert time.monotonic() - started < SLACK_S
        assert {each.result().fault for each in hanging} == {Reason.TIMEOUT}
        assert silent.all_ended()


def test_an_attempt_leaves_no_thread_but_one_for_all_lookups(make_transport: MakeTransport) -> None:
    before = set(threading.enumerate())
    transport = make_transport(read_timeout=0.2)
    with Hostile(hostile.silence) as server:
        for _ in range(3):
            expect(transport, server.url(host="localhost"), Reason.TIMEOUT)
        after = set(threading.enumerate()) - before - server.threads()
    assert [each.name for each in after] == ["name lookup"]


@pytest.mark.parametrize(
    "script",
    [
        hostile.repeats(HEAD + b"\r\n", bytes(99_999)),
        hostile.repeats(HEAD + b"x: ", bytes(99_999)),
        hostile.repeats(CHUNKED, b"fffff\r\n" + bytes(0xFFFFF) + b"\r\n"),
        hostile.repeats(b"", bytes(99_999)),
    ],
)
def test_a_flood_takes_no_memory(transport: Transport, script: Script) -> None:
    with Hostile(script) as server:
        transport.post(server.url(), {}, b"")
        tracemalloc.start()
        try:
            transport.post(server.url(), {}, b"")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 5_000_000  # the server in this process included


SENDER = """
import resource, sys
from callbacks.delivery.adapter import GuardedAdapter
from callbacks.delivery.transport import Transport

def peak_kb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

transport = Transport(GuardedAdapter(allowed_networks=["127.0.0.0/8"], max_response_bytes=65_536,
                                     connect_timeout=5, read_timeout=5, deadline=20))
*urls, small = sys.argv[1:]
assert transport.post(small, {}, b"").status == 200
before = peak_kb()
for url in urls:
    assert transport.post(url, {}, b"").status == 200
print(peak_kb() - before)
"""


def test_a_body_of_100_mb_takes_less_than_20_mb_in_the_sending_process() -> None:
    unit = 1 if sys.platform == "darwin" else 1_024  # of ru_maxrss
    with (
        Hostile(hostile.megabytes(100)) as declared,
        Hostile(hostile.repeats(CHUNKED, b"fffff\r\n" + bytes(0xFFFFF) + b"\r\n")) as endless,
        Hostile(hostile.answers(OK)) as small,
    ):
        urls = [declared.url(), endless.url(), small.url()]
        run = subprocess.run(
            [sys.executable, "-c", SENDER, *urls], capture_output=True, text=True, check=True
        )
    assert int(run.stdout) * unit < 20_000_000
