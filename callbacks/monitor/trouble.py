"""The condition of destinations: which are in trouble, why, and what to do about each. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass

from callbacks.batcher.inspector import Destination
from callbacks.batcher.journal import told
from callbacks.model import Reason
from callbacks.text import age, many

#: So many named where only the worst are.
WORST = 3
#: A 429 counts as trouble for so long.
_LIMITED_MS = 60_000
_ROW = 3


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong with one destination, and what to do; the lowest `rank` is the worst."""

    destination: str
    rank: int
    reason: str
    todo: str
    waiting: int = 0

    def __str__(self) -> str:
        return f"{self.destination}: {self.reason}; {self.todo}"


def trouble_of(one: Destination, now_ms: float) -> Trouble | None:
    """What is wrong with a destination; None if nothing is, or if it is paused."""
    if one.paused:
        return None
    name = shlex.quote(one.name)
    found = _broken(one, name, now_ms) or _answers(one, name, now_ms)
    if found is None:
        return None
    rank, reason, todo = found
    return Trouble(one.name, rank, reason, todo, one.waiting)


def worst(destinations: Iterable[Destination], now_ms: float) -> list[Trouble]:
    """Those in trouble, worst first; of the same kind, those where most waits."""
    found = (trouble_of(one, now_ms) for one in destinations)
    return sorted(filter(None, found), key=lambda one: (one.rank, -one.waiting, one.destination))


_Found = tuple[int, str, str]


def _broken(one: Destination, name: str, now_ms: float) -> _Found | None:
    """A destination that gets nothing, or only a probe."""
    if one.breaker != "closed":
        left = age(max(0.0, (one.hold_until_ms or 0) - now_ms) / 1000)
        state = f"breaker open for another {left}" if one.hold_until_ms else "breaker half-open"
        if one.refuses:
            dead = f"callbacks dead show --destination {name}"
            return (
                0,
                f"{state}: it refuses everything, the last with {_last(one)}",
                (f"{dead} shows what it says; once it is well: callbacks resume {name}"),
            )
        return (
            1,
            f"{state}: it fails, the last time with {_last(one)}",
            (f"see whether it is up; callbacks resume {name} tries it at once"),
        )
    if one.hold_why == "secret":
        return (
            2,
            "no secret is found for its callbacks",
            ("see what CALLBACKS_SECRET_RESOLVER does in the workers"),
        )
    return None


def _answers(one: Destination, name: str, now_ms: float) -> _Found | None:
    """A destination that is sent to, and answers badly."""
    if one.refused >= _ROW:
        return (
            3,
            f"its last {many(one.refused, 'answer')} were all 3xx or 4xx: {_last(one)}",
            (f"callbacks dead show --destination {name} shows what it says"),
        )
    if one.last == Reason.BLOCKED_ADDRESS:
        return (
            3,
            "its address may not be reached",
            ("correct its URL, or allow the address in CALLBACKS_ALLOWED_NETWORKS"),
        )
    if one.faults >= _ROW:
        return (
            4,
            f"{many(one.faults, 'fault')} in a row, the last {_last(one)}",
            (f"see whether it is up; callbacks list processing --destination {name}"),
        )
    if one.limited_at_ms is not None and now_ms - one.limited_at_ms < _LIMITED_MS:
        count = one.failures.get(Reason.RATE_LIMITED, 0)
        pace = "" if one.interval_ms is None else f", now one request in {one.interval_ms:,.0f} ms"
        return (
            5,
            f"{count:,} answers of 429 in this hour and the one before{pace}",
            ("nothing: it is sent to more slowly; ask its operator for a higher limit"),
        )
    return None


def _last(one: Destination) -> str:
    """Its last outcome: the status if there was one, else the reason."""
    return f"{one.last_status} ({one.last})" if one.last_status else one.last or "unknown"


_HOLDS = {
    "full": "request limit reached",
    "park": "asked to wait",
    "breaker": "breaker open",
    "secret": "no secret",
}


def condition(one: Destination, now_ms: float) -> str:
    """Whether a destination can be sent to, and if not, why and for how long."""
    if one.paused:
        return f"paused {told(one.paused_by)}".strip() if one.paused_by else "paused"
    if one.breaker == "half-open":
        return "breaker half-open"
    if one.hold_until_ms is None:
        return "ready"
    left = age(max(0.0, one.hold_until_ms - now_ms) / 1000)
    return f"{_HOLDS.get(one.hold_why, 'on hold')}, for up to {left}"


def limit_of(one: Destination, concurrency: int) -> tuple[int | None, str]:
    """How many requests it may have in flight now (None: any number), and why."""
    if one.breaker == "open":
        return 0, "breaker open"
    if one.breaker == "half-open":
        return 1, "breaker half-open"
    if concurrency and not one.proven:
        return 1, "timed out" if one.last == Reason.TIMEOUT else "no 2xx yet"
    return concurrency or None, "as set"
