"""Replies are read strictly, and the same however they are cut into pieces."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from callbacks.delivery.response import (
    BadReply,
    Body,
    Head,
    HeadTooLarge,
    Reader,
    body_of,
    drain,
    idle_limit_s,
    read_head,
)
from hypothesis import given
from hypothesis import strategies as st


def reader_of(data: bytes, size: int = 16_384) -> Reader:
    """Hands in `data` in pieces of at most `size` bytes, then the end."""

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(data), size):
            yield data[start : start + size]
        while True:
            yield b""

    source = pieces()
    return Reader(lambda _most: next(source))


def head_of(text: str) -> Head:
    """A 200 with these fields, one a line."""
    lines = "".join(f"{line}\r\n" for line in text.splitlines())
    return read_head(reader_of(f"HTTP/1.1 200 OK\r\n{lines}\r\n".encode("latin-1")))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 16_384])
def test_a_reply_is_read_the_same_in_pieces_of_any_size(size: int) -> None:
    data = (
        b"HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n"
        b"HTTP/1.1 503 No Luck\r\nRetry-After:  7 \r\nX-A: 1\r\nx-a: 2\r\n"
        b"Transfer-Encoding: Chunked\r\n\r\n"
        b"3;a=b\r\nabc\r\n1A\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\nx: y\r\n\r\n"
    )
    reader = reader_of(data, size)
    head = read_head(reader)
    assert (head.status, head.minor_version) == (503, 1)
    assert head.fields["x-a"] == ["1", "2"]
    assert head.first("retry-after") == "7"
    assert body_of(head) is Body.CHUNKED
    assert drain(reader, Body.CHUNKED, limit=100)


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        ("content-length: 0", 0),
        ("content-length: 7", 7),
        ("Content-Length:7", 7),
        ("content-length: 007", 7),
        ("transfer-encoding: chunked", Body.CHUNKED),
        ("transfer-encoding: ,chunked", Body.CHUNKED),
        ("", Body.UNTIL_CLOSE),
        ("content-length: 7\ncontent-length: 7", Body.UNKNOWN),
        ("content-length: 7, 7", Body.UNKNOWN),
        ("content-length: -7", Body.UNKNOWN),
        ("content-length: +7", Body.UNKNOWN),
        ("content-length: 7 7", Body.UNKNOWN),
        ("content-length: 0x7", Body.UNKNOWN),
        ("content-length: 7.0", Body.UNKNOWN),
        ("content-length: 7_0", Body.UNKNOWN),
        ("content-length:", Body.UNKNOWN),
        ("content-length: \xb2", Body.UNKNOWN),
        ("content-length: 7\ntransfer-encoding: chunked", Body.UNKNOWN),
        ("transfer-encoding: gzip", Body.UNKNOWN),
        ("transfer-encoding: gzip, chunked", Body.UNKNOWN),
        ("transfer-encoding: chunked, chunked", Body.UNKNOWN),
        ("transfer-encoding: chunked\ntransfer-encoding: identity", Body.UNKNOWN),
        ("transfer-encoding: xchunked", Body.UNKNOWN),
        ("content-length: 7\nno field", Body.UNKNOWN),
        ("content-length : 7", Body.UNKNOWN),
        ("content-length: 7\n folded", Body.UNKNOWN),
        ("content-length: 7\nx: a\0b", Body.UNKNOWN),
    ],
)
def test_a_body_ends_where_all_readers_agree_that_it_does(fields: str, body: Body | int) -> None:
    assert body_of(head_of(fields)) == body


def test_http_1_0_knows_no_chunks_and_204_no_body() -> None:
    chunked = {"transfer-encoding": ["chunked"]}
    assert body_of(Head(200, 0, chunked)) is Body.UNKNOWN
    assert body_of(Head(204, 1, {})) == 0
    assert body_of(Head(304, 1, {"content-length": ["0"]})) == 0
    assert body_of(Head(304, 1, {"content-length": ["5"]})) is Body.UNKNOWN
    assert body_of(Head(204, 1, chunked)) is Body.UNKNOWN


@pytest.mark.parametrize(
    ("fields", "limit_s"),
    [
        ("", 30.0),
        ("connection: keep-alive", 30.0),
        ("connection: close", 0.0),
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
    assert idle_limit_s(head_of(fields), 30.0) == limit_s


def test_an_http_1_0_connection_does_not_idle() -> None:
    assert idle_limit_s(Head(200, 0, {"connection": ["keep-alive"]}), 30.0) == 0.0


def test_limits_are_met_to_the_byte() -> None:
    def head(size: int) -> bytes:
        return b"HTTP/1.1 200 OK\r\nx:" + b"z" * (size - 2) + b"\r\n\r\n"

    assert read_head(reader_of(head(65_536))).status == 200
    with pytest.raises(HeadTooLarge):
        read_head(reader_of(head(65_537)))
    assert drain(reader_of(b"abc"), 3, limit=3)
    assert not drain(reader_of(b"abc"), 3, limit=2)
    assert not drain(reader_of(b"abcd"), 3, limit=3)


def test_chunks_count_with_their_sizes() -> None:
    data = b"1;x\r\na\r\n" * 10 + b"0\r\n\r\n"  # of 8 bytes each
    assert drain(reader_of(data), Body.CHUNKED, limit=80)
    assert not drain(reader_of(data), Body.CHUNKED, limit=79)


@pytest.mark.parametrize("body", [Body.UNTIL_CLOSE, Body.UNKNOWN])
def test_of_a_body_without_an_end_of_its_own_nothing_is_read(body: Body) -> None:
    reader = reader_of(b"abc")
    assert not drain(reader, body, limit=3)
    assert reader.buffered == 0


@given(st.binary(max_size=300), st.integers(1, 50))
def test_no_bytes_make_it_fail_in_any_other_way(data: bytes, size: int) -> None:
    with contextlib.suppress(BadReply, HeadTooLarge, ConnectionResetError):
        read_head(reader_of(data, size))


@given(st.binary(max_size=300), st.integers(1, 50), st.sampled_from([0, 5, 100, *Body]))
def test_no_body_makes_it_fail_in_any_other_way(data: bytes, size: int, body: Body | int) -> None:
    with contextlib.suppress(BadReply, HeadTooLarge, ConnectionResetError):
        drain(reader_of(data, size), body, limit=50)


@given(
    st.lists(st.integers(100, 199).filter(lambda status: status != 101), max_size=8),
    st.integers(200, 599),
    st.integers(1, 50),
)
def test_the_final_status_is_the_verdict(interim: list[int], final: int, size: int) -> None:
    data = b"".join(b"HTTP/1.1 %d X\r\na: b\r\n\r\n" % status for status in [*interim, final])
    reader = reader_of(data + b"next", size)
    assert read_head(reader).status == final


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=8), st.integers(1, 50))
def test_chunks_are_read_to_their_end_and_not_beyond(chunks: list[bytes], size: int) -> None:
    data = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    assert drain(reader_of(data, size), Body.CHUNKED, limit=1_000)
    assert not drain(reader_of(data + b"x"), Body.CHUNKED, limit=1_000)
    with pytest.raises(ConnectionResetError):
        drain(reader_of(data[:-1], size), Body.CHUNKED, limit=1_000)
