"""How times, ages, counts and untrusted text are shown. Pure; seconds since 1970, UTC."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Final

_UNITS: Final = ((2 * 86_400, 86_400, "d"), (2 * 3_600, 3_600, "h"), (120, 60, "min"))


def age(seconds: float) -> str:
    """A duration in its largest fitting unit: `0.4 s`, `12 s`, `5 min`, `3 h`, `2 d`."""
    for least, unit, name in _UNITS:
        if seconds >= least:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def moment(at_s: float) -> str:
    """An instant as ISO 8601 in UTC, to the second."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def distance(at_s: float, now_s: float) -> str:
    """How far away an instant is: `in 12 s`, or `3 h ago`."""
    left = at_s - now_s
    return f"in {age(left)}" if left > 0 else f"{age(-left)} ago"


def when(at_s: float, now_s: float) -> str:
    """An instant and how far away it is."""
    return f"{moment(at_s)} ({distance(at_s, now_s)})"


#: Of JSON, in as few characters as possible. Kept, as `json.dumps` makes an encoder at each call.
to_json: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def many(count: int, noun: str) -> str:
    """A count with its noun: `1 callback`, `1,200 callbacks`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def counted(count: int, one: str, more: str) -> str:
    """A count with an irregular noun: `1 retry`, `2 retries`."""
    return f"{count:,} {one if count == 1 else more}"


def with_lanes(host: str, lanes: int, paths: int) -> str:
    """A host and how many of its lanes and paths: `https://host:443 and 2 lanes`."""
    counts = ((lanes, "lane"), (paths, "path"))
    return " and ".join([host, *(many(count, noun) for count, noun in counts if count)])


def printable(text: str) -> str:
    """Untrusted text without characters that could control a terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
