"""Replies are parsed strictly, and the same however they are split."""

from __future__ import annotations

import contextlib
import gc
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callbacks.delivery.reply import BadReply, HeadTooLarge, Reply

EMPTY = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


def fed(data: bytes, size: int = 16_384, body_limit: int = 0) -> Reply:
    """A reply fed with all of `data`, in pieces of at most `size` bytes."""
    reply = Reply(body_limit)
    for start in range(0, len(data), size):
        reply.feed(data[start : start + size])
    return reply


def with_fields(text: str, body: bytes = b"", start: str = "HTTP/1.1 200 OK") -> Reply:
    """A reply with these fields, one per line."""
    lines = "".join(f"{line}\r\n" for line in text.splitlines())
    return fed(f"{start}\r\n{lines}\r\n".encode("latin-1") + body)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 16_384])
def test_a_reply_is_read_the_same_in_pieces_of_any_size(size: int) -> None:
    data = (
        b"HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n"
        b"HTTP/1.1 503 No Luck\r\nRetry-After:  7 \r\nX-A: 1\r\nx-a: 2\r\n"
        b"Transfer-Encoding: Chunked\r\n\r\n"
        b"3;a=b\r\nabc\r\n1A \r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\nx: y\r\n\r\n"
    )
    reply = fed(data, size, body_limit=100)
    assert (reply.status, reply.reason) == (503, "No Luck")
    assert reply.fields["x-a"] == ["1", "2"]
    assert "link" not in reply.fields
    assert "x" not in reply.fields  # a trailer is not a header
    assert reply.first("retry-after") == "7"
    assert reply.body == b"abcabcdefghijklmnopqrstuvwxyz"
    assert (reply.is_over, reply.may_keep, reply.fault) == (True, True, "")


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        ("content-length: 0", b""),
        ("content-length: 7", b"1234567"),
        ("Content-Length:7", b"1234567"),
        ("content-length: 007", b"1234567"),
        ("transfer-encoding: chunked", b"0\r\n\r\n"),
        ("Transfer-Encoding: CHUNKED", b"1\r\nx\r\n0\r\n\r\n"),
    ],
)
def test_a_connection_is_kept_where_all_readers_agree_on_the_end(fields: str, body: bytes) -> None:
    reply = with_fields(fields, body)
    assert (reply.is_over, reply.may_keep) == (True, True)
    assert not with_fields(fields, body + b"x").may_keep
    assert not with_fields(fields, body + EMPTY).may_keep


@pytest.mark.parametrize(
    "fields",
    [
        "",  # until the connection closes
        "content-length: 7\ncontent-length: 7",
        "content-length: 7, 7",
        "content-length: -7",
        "content-length: +7",
        "content-length: 7 7",
        "content-length: 0x7",
        "content-length: 7.0",
        "content-length: 7_0",
        "content-length:",
        "content-length: \xb2",
        "content-length: 99999999999999999999999999",
        "content-length: 7\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\ncontent-length: 7",
        "transfer-encoding: gzip",
        "transfer-encoding: gzip, chunked",
        "transfer-encoding: chunked, chunked",
        "transfer-encoding: chunked\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\ntransfer-encoding: identity",
        "transfer-encoding: xchunked",
        "transfer-encoding: ,chunked",
        "content-length: 7\nno field",
        "content-length : 7",
        "content-length: 7\n folded",
        "content-length: 7\nx: a\0b",
        "content-length: 7\nx: a\rb",
    ],
)
def test_where_they_may_not_agree_the_verdict_stands_and_the_connection_is_not_kept(
    fields: str,
) -> None:
    reply = with_fields(fields, b"1234567")
    assert reply.status == 200
    assert not reply.may_keep
    assert bool(reply.fault) is bool(fields)


@pytest.mark.parametrize("fields", ["retry-after: 7\nno field", "no field\nx: y\nRetry-After: 7"])
@pytest.mark.parametrize("before", [b"", b"HTTP/1.1 103 X\r\nretry-after: 9\r\n\r\n"])
@pytest.mark.parametrize("size", [1, 5, 16_384])
def test_a_hint_in_a_malformed_head_counts_when_all_of_it_is_there(
    fields: str, before: bytes, size: int
) -> None:
    lines = fields.replace("\n", "\r\n").encode()
    reply = fed(before + b"HTTP/1.1 429 No\r\n" + lines + b"\r\n", size)
    assert not reply.has_head
    reply.feed(b"\r\n")
    assert (reply.status, reply.first("retry-after")) == (429, "7")
    assert (reply.is_over, reply.may_keep) == (True, False)


@pytest.mark.parametrize(
    ("start", "fields", "kept"),
    [
        ("HTTP/1.0 200 OK", "connection: keep-alive\ncontent-length: 0", False),
        ("HTTP/1.7 200 OK", "content-length: 0", True),  # to be read as 1.1
        ("HTTP/1.1 204 No", "", True),
        ("HTTP/1.1 304 No", "content-length: 0", True),
        ("HTTP/1.1 304 No", "content-length: 5", False),
        ("HTTP/1.1 204 No", "transfer-encoding: chunked", False),
    ],
)
def test_http_1_0_keeps_no_connection_and_204_has_no_body(
    start: str, fields: str, kept: bool
) -> None:
    reply = with_fields(fields, start=start)
    assert (reply.is_over, reply.may_keep) == (True, kept)


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n" + EMPTY,
        b"RTSP/1.0 200 OK\r\n\r\n",
        b"ICE/1.0 200 OK\r\n\r\n",
        b"http/1.1 200 OK\r\n\r\n",
        b"HTTP/0.9 200 OK\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/10.1 200 OK\r\n\r\n",
        b"HTTP/1.1  200 OK\r\n\r\n",
        b"HTTP/1.1 600 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/1.1 200\0OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\nno field\r\n\r\n",
        b"HTTP/1.1 600 OK\r\nno field\r\n\r\n",
        b"HTTP/2.0 200 OK\r\nno field\r\n\r\n",
        b"HTTP/1.1 103 X\r\n\r\nHTTP/1.1 2x\r\n\r\n",
        b"HTTP/1.1 103 X\r\n\r\n\r\n" + EMPTY,
        b"HTTP/1.1 103 X\r\n\r\nRTSP/1.0 200 OK\r\n\r\n",
        b"HTTP/1.1 101 X\r\n\r\n" + EMPTY,
        b"HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n" + EMPTY,
    ],
)
def test_what_is_no_final_reply_has_no_verdict(data: bytes) -> None:
    for size in (1, 16_384):
        with pytest.raises(BadReply):
            fed(data, size)


def test_nothing_in_an_interim_reply_counts() -> None:
    assert fed(b"HTTP/1.1 103 X\r\nno field\r\n\r\n" + EMPTY).may_keep
    assert fed(b"HTTP/1.1 100 C\r\nconnection: close\r\n\r\n" + EMPTY).status == 200
    assert fed(b"HTTP/1.0 100 C\r\n\r\n" + EMPTY).status == 200


@pytest.mark.parametrize(
    ("fields", "limit_s"),
    [
        ("", 30.0),
        ("connection: keep-alive", 30.0),
        ("connection: close", 0.0),
        ("connection: x, CLOSE", 0.0),
        ("connection: keep-alive\nconnection: Close", 0.0),
        ("connection: closed", 30.0),
        ("keep-alive: timeout=5", 4.0),
        ("keep-alive: max=100, timeout=5", 4.0),
        ("keep-alive: Timeout = 5", 4.0),
        ("keep-alive: timeout=5\nkeep-alive: timeout=3", 2.0),
        ("keep-alive: timeout=1", 0.0),
        ("keep-alive: timeout=0", 0.0),
        ("keep-alive: timeout=999999999", 30.0),
        ("keep-alive: timeout=" + "9" * 5_000, 30.0),
        ("keep-alive: xtimeout=5", 30.0),
        ("keep-alive: timeout=-5", 30.0),
    ],
)
def test_a_connection_idles_no_longer_than_the_receiver_lets_it(
    fields: str, limit_s: float
) -> None:
    reply = with_fields(f"{fields}\ncontent-length: 0".strip())
    assert reply.idle_limit_s(30.0) == limit_s


def test_fields_interim_replies_and_the_status_line_are_bounded() -> None:
    head = b"HTTP/1.1 200 OK\r\n"
    assert fed(head + b"x: y\r\n" * 100 + b"\r\n").status == 200
    with pytest.raises(HeadTooLarge):
        fed(head + b"x: y\r\n" * 101 + b"\r\n")
    interim = b"HTTP/1.1 103 X\r\nx: y\r\n\r\n"
    assert fed(interim * 8 + EMPTY).status == 200
    with pytest.raises(BadReply, match="more than 8 interim"):
        fed(interim * 9)
    padding = b"z" * (65_536 - len(head + b"x:\r\n\r\n"))
    assert fed(head + b"x:" + padding + b"\r\n\r\n").status == 200
    for size in (1_000, 16_384, 99_999):
        with pytest.raises(HeadTooLarge):
            fed(head + b"x:z" + padding + b"\r\n\r\n", size)
        with pytest.raises(BadReply):
            fed(b"HTTP/1.1 200 " + b"z" * 65_536, size)


def test_what_is_kept_of_a_body_is_bounded() -> None:
    data = b"HTTP/1.1 200 OK\r\ncontent-length: 90\r\n\r\n" + b"z" * 90
    assert len(fed(data, size=10).body) <= 10  # at most one piece beyond the limit
    assert 50 < len(fed(data, size=10, body_limit=50).body) <= 60
    assert len(fed(data, size=10, body_limit=90).body) == 90


def test_an_end_before_the_head_is_a_reset_and_after_it_a_fault_of_the_body() -> None:
    for data in (b"", b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\nx: y\r\n", b"HTTP/1.1 100 C\r\n\r\n"):
        with pytest.raises(ConnectionResetError):
            fed(data).end()
    for fields, has_fault in (
        ("content-length: 9", True),
        ("transfer-encoding: chunked", True),
        ("x: y", False),
    ):
        reply = with_fields(fields, b"1")
        reply.end()
        assert (reply.is_over, reply.may_keep, bool(reply.fault)) == (True, False, has_fault)


def test_an_exception_of_another_thread_comes_out_of_the_parser() -> None:
    with pytest.raises(SystemExit):
        Stopped().feed(EMPTY)


class Stopped(Reply):
    """As when a thread is told to end during a callback from llhttp."""

    def on_message_complete(self) -> None:
        raise SystemExit


def test_a_released_reply_needs_no_collector() -> None:
    gc.disable()
    try:
        reply = fed(EMPTY)
        reply.release()
        gone = weakref.ref(reply)
        del reply
        assert gone() is None
    finally:
        gc.enable()


@given(st.binary(max_size=300), st.integers(1, 50))
def test_no_bytes_make_it_fail_in_any_other_way(data: bytes, size: int) -> None:
    for start in (
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
    ):
        with contextlib.suppress(BadReply, HeadTooLarge):
            fed(start + data, size)


@given(
    st.lists(st.integers(100, 199).filter(lambda status: status != 101), max_size=8),
    st.integers(200, 599),
    st.integers(1, 50),
)
def test_the_final_status_is_the_verdict(interim: list[int], final: int, size: int) -> None:
    data = b"".join(b"HTTP/1.1 %d X\r\na: b\r\n\r\n" % status for status in [*interim, final])
    assert fed(data + b"next", size).status == final


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=8), st.integers(1, 50))
def test_chunks_are_read_to_their_end_and_not_beyond(chunks: list[bytes], size: int) -> None:
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    data = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    whole = fed(head + data, size, body_limit=1_000)
    assert (whole.is_over, whole.may_keep, bytes(whole.body)) == (True, True, b"".join(chunks))
    assert not fed(head + data + b"x", size).may_keep
    assert not fed(head + data[:-1], size).is_over


@pytest.mark.parametrize("start", [b"S", b"SSH-2.0-x\r\n", b"\0", b"HTTP/1.1 2x\r\n", b"HTTP/2"])
def test_what_cannot_become_a_reply_is_not_waited_for(start: bytes) -> None:
    for size in (1, 16_384):
        with pytest.raises(BadReply):
            fed(start, size)


def test_lf_line_ends_are_taken() -> None:
    assert fed(EMPTY.replace(b"\r\n", b"\n")).may_keep


@pytest.mark.parametrize("more", [b"\r\n", b"x", EMPTY])
@pytest.mark.parametrize("size", [len(EMPTY), 16_384])
def test_what_follows_a_reply_is_no_fault_of_it_and_ends_the_connection(
    more: bytes, size: int
) -> None:
    reply = fed(EMPTY + more, size)
    assert (reply.status, reply.fault, reply.may_keep) == (200, "", False)
