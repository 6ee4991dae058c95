"""The parts of scripts/bench that could make its figures wrong without anyone seeing it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from scripts.benchmark.receiver import _Http, _Noted
from scripts.benchmark.request import BODY, check, headers
from scripts.benchmark.table import Row, compared, lines, percentile


class Wire:
    """A connection's transport that keeps what is written."""

    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += data


def request(**changed: str) -> bytes:
    fields = {"Content-Length": str(len(BODY))} | headers("c-1") | changed
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return b"POST / HTTP/1.1\r\n" + head.encode() + b"\r\n" + BODY


@pytest.mark.parametrize("cut", [1, 20, len(request()) - len(BODY), len(request()) - 1])
def test_a_request_in_two_parts_is_counted_and_answered_once(cut: int) -> None:
    noted, wire, loop = _Noted(), Wire(), asyncio.new_event_loop()
    connection: Any = _Http(noted, loop)
    connection.connection_made(wire)

    connection.data_received(request()[:cut])
    assert (len(noted.times), wire.written) == (0, b"")
    connection.data_received(request()[cut:])

    loop.close()
    assert len(noted.times) == 1
    assert wire.written.count(b"200 OK") == 1
    assert noted.first == request()


def test_three_requests_in_one_part_are_three() -> None:
    noted, loop = _Noted(), asyncio.new_event_loop()
    connection: Any = _Http(noted, loop)
    connection.connection_made(Wire())

    connection.data_received(request() * 3)

    loop.close()
    assert len(noted.times) == 3


def test_a_contender_that_sends_something_else_is_found_out() -> None:
    check(request())
    with pytest.raises(AssertionError, match="webhook-signature"):
        check(request().replace(b"webhook-signature", b"x-signature"))
    with pytest.raises(AssertionError, match="body"):
        check(request()[:-1])
    with pytest.raises(Exception, match="matches none"):
        check(request(**{"webhook-id": "another"}))


def test_a_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    # 10/5 = 2, 30/10 = 3, 100/10 = 10: their median is 3; that of the medians would be 30/10.
    row = compared("s", "w", [10, 30, 100], [5, 10, 10], "/s")

    assert row == Row("s", "w", "30.0 /s", "10.0 /s", 3)
    assert compared("s", "w", [10, 2, 9], [10, 1, 3], "/s").ratio == 2


@pytest.mark.parametrize(("share", "value"), [(0, 1), (0.05, 2), (0.5, 11), (0.95, 20), (1, 21)])
def test_a_percentile_is_one_of_the_values(share: float, value: int) -> None:
    assert percentile(range(21, 0, -1), share) == value


def test_each_section_has_one_heading() -> None:
    rows = [Row("a", "one", "1"), Row("a", "two", "2", "4", 0.5), Row("b", "three", "3")]

    shown = "\n".join(lines(rows))

    assert [shown.count(f"\n{name}\n") for name in "ab"] == [1, 1]
    assert "0.50" in shown
