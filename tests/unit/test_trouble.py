from __future__ import annotations

from typing import Any

import pytest

from callbacks.batcher.inspector import Destination
from callbacks.monitor.trouble import limit_of, trouble_of, worst

NOW = 1_000_000


def destination(name: str = "https://a.example:443", **changed: Any) -> Destination:
    given: dict[str, Any] = {
        "name": name,
        "waiting": 0,
        "in_flight": 0,
        "paused": False,
        "breaker": "closed",
        "faults": 0,
        "per_minute": 0,
        "interval_ms": None,
        "interval_why": "",
        "latency_ms": None,
        "hold_until_ms": None,
        "hold_why": "",
        "next_claim_ms": None,
        "oldest_due_ms": None,
        "last": "sent",
        "proven": True,
    }
    return Destination(**given | changed)


REFUSING = {"breaker": "open", "refuses": True, "hold_until_ms": NOW + 30_000, "last_status": 401}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (REFUSING | {"last": "client_error"}, "breaker open for another 30 s: it refuses"),
        ({"breaker": "half-open", "last": "timeout"}, "half-open: it fails, the last time with t"),
        ({"hold_why": "secret"}, "no secret is found"),
        ({"refused": 3, "last": "client_error", "last_status": 400}, "all 3xx or 4xx: 400 (client"),
        ({"last": "blocked_address"}, "its address may not be reached"),
        ({"faults": 3, "last": "reset"}, "3 faults in a row, the last reset"),
        (
            {"limited_at_ms": NOW - 59_000, "failures": {"rate_limited": 40}, "interval_ms": 330},
            "40 answers of 429 in this hour and the one before, now one request in 330 ms",
        ),
    ],
)
def test_a_destination_in_trouble_is_named_with_its_reason(
    changed: dict[str, Any], words: str
) -> None:
    found = trouble_of(destination(**changed), NOW)
    assert found is not None
    assert words in str(found)
    assert found.todo


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"paused": True, "breaker": "open"},
        {"refused": 2},
        {"faults": 2},
        {"limited_at_ms": NOW - 61_000},
        {"hold_why": "park", "hold_until_ms": NOW + 1},
    ],
)
def test_what_is_no_trouble(changed: dict[str, Any]) -> None:
    assert trouble_of(destination(**changed), NOW) is None


def test_the_worst_come_first_and_of_a_kind_those_with_the_most_waiting() -> None:
    found = worst(
        [
            destination("https://slow:443", limited_at_ms=NOW),
            destination("https://few:443", breaker="open", waiting=1),
            destination("https://well:443"),
            destination("https://many:443", breaker="open", waiting=9),
            destination("https://refuses:443#a b", **REFUSING),
        ],
        NOW,
    )
    names = [one.destination.partition("//")[2].partition(":")[0] for one in found]
    assert names == ["refuses", "many", "few", "slow"]
    assert "callbacks resume 'https://refuses:443#a b'" in found[0].todo


@pytest.mark.parametrize(
    ("changed", "limit"),
    [
        ({}, (4, "as set")),
        ({"proven": False}, (1, "no 2xx yet")),
        ({"proven": False, "last": "timeout"}, (1, "timed out")),
        ({"breaker": "open"}, (0, "breaker open")),
        ({"breaker": "half-open"}, (1, "breaker half-open")),
    ],
)
def test_the_limit_of_now_and_why(changed: dict[str, Any], limit: tuple[int, str]) -> None:
    assert limit_of(destination(**changed), 4) == limit


def test_without_a_limit_there_is_none_for_an_unproven_destination_either() -> None:
    assert limit_of(destination(proven=False), 0) == (None, "as set")
