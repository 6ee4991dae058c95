"""`callbacks destinations`: each destination and its condition."""

from __future__ import annotations

import time
from dataclasses import asdict
from itertools import islice
from typing import Final

import click

from callbacks.batcher.inspector import Destination, Inspector
from callbacks.cli.command import console, json_option, note, parts, print_json_array, table
from callbacks.cli.listing import first
from callbacks.text import age, printable

#: Destinations shown by default: laying out 100,000 takes minutes.
_SHOWN: Final = 100


@click.command()
@click.option("--limit", type=click.IntRange(min=1), help="Show at most N.", metavar="N")
@json_option
def destinations(limit: int | None, as_json: bool) -> None:
    """Show each destination used in the last day.

    Shows 100 unless --limit is given; with --json all, as one array. "request limit reached"
    means that the destination has as many callbacks claimed or in flight as it may have
    (CALLBACKS_DESTINATION_CONCURRENCY, or one until it has answered).
    """
    found = Inspector(parts().batcher.scripts).destinations()
    if as_json:
        print_json_array(asdict(one) for one in islice(found, limit))
        return
    now_ms = time.time() * 1000
    rows = table(
        "destination", "waiting", "oldest", "in flight", "next claim", "state", "per minute",
        "interval", "latency", "faults", "last outcome",
        right=("waiting", "oldest", "in flight", "per minute", "interval", "latency", "faults"),
    )  # fmt: skip
    for one in first(found, limit or _SHOWN):
        rows.add_row(*_destination(one, now_ms))
    if rows.row_count:
        console().print(rows)
    else:
        note("no destination was used in the last day")


def _destination(one: Destination, now_ms: float) -> list[str]:
    oldest_ms = None if one.oldest_due_ms is None else now_ms - one.oldest_due_ms
    claim_ms = None if one.next_claim_ms is None else one.next_claim_ms - now_ms
    return [
        printable(one.name),
        f"{one.waiting:,}",
        "-" if oldest_ms is None or oldest_ms < 0 else age(oldest_ms / 1000),
        f"{one.in_flight:,}",
        "-" if claim_ms is None else "now" if claim_ms <= 0 else f"in {age(claim_ms / 1000)}",
        condition(one, now_ms),
        f"{one.per_minute:,}",
        "-" if one.interval_ms is None else f"{one.interval_ms:,.0f} ms ({one.interval_why})",
        "-" if one.latency_ms is None else f"{one.latency_ms:,} ms",
        f"{one.faults:,}",
        one.last or "-",
    ]


_HOLDS = {
    "full": "request limit reached",
    "park": "asked to wait",
    "breaker": "breaker open",
    "secret": "no secret",
}


def condition(one: Destination, now_ms: float) -> str:
    """Whether a destination can be sent to, and if not, why and for how long."""
    if one.paused:
        return "paused"
    if one.breaker == "half-open":
        return "breaker half-open"
    if one.hold_until_ms is None:
        return "ready"
    left = age(max(0.0, one.hold_until_ms - now_ms) / 1000)
    return f"{_HOLDS.get(one.hold_why, 'on hold')}, for up to {left}"
