"""`callbacks destinations`: each destination and its condition."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from itertools import chain, islice
from types import MappingProxyType
from typing import Any, Final

import click

from callbacks.batcher.inspector import Destination, Inspector
from callbacks.batcher.journal import told
from callbacks.cli.command import (
    console,
    json_option,
    limit_option,
    note,
    parts,
    print_json_array,
    say,
    table,
)
from callbacks.cli.listing import first
from callbacks.monitor.trouble import limit_of, trouble_of, worst
from callbacks.text import age, printable

#: Destinations shown by default: laying out 100,000 takes minutes.
_SHOWN: Final = 100


#: What the destinations can be sorted by; the largest first, except names.
_KEYS: Final[Mapping[str, Callable[[Destination], Any]]] = MappingProxyType(
    {
        "name": lambda one: one.name,
        "waiting": lambda one: -one.waiting,
        "oldest": lambda one: (one.oldest_due_ms is None, one.oldest_due_ms),
        "in-flight": lambda one: -one.in_flight,
        "rate": lambda one: -one.per_minute,
        "failures": lambda one: -sum(one.failures.values()),
        "latency": lambda one: -(one.latency_ms or 0),
    }
)


@click.command()
@click.option("--trouble", is_flag=True, help="Only those in trouble, worst first.")
@click.option("--sort", type=click.Choice(list(_KEYS)), help="Largest first; by name from A to Z.")
@limit_option()
@json_option
def destinations(trouble: bool, sort: str | None, limit: int | None, as_json: bool) -> None:
    """Show each destination, those in trouble first.

    Shows those used in the last day: 100 unless --limit is given; with --json all, as one array.
    "request limit reached" means that the destination has as many callbacks claimed or in flight
    as it may have (CALLBACKS_DESTINATION_CONCURRENCY, or one until it has answered). Failures are
    those of this hour and the one before.
    """
    found, now_ms = parts(), time.time() * 1000
    shown = _ordered(Inspector(found.batcher.scripts), now_ms, trouble=trouble, sort=sort)
    concurrency = found.settings.destination_concurrency
    if as_json:
        print_json_array(_document(one, concurrency, now_ms) for one in islice(shown, limit))
        return
    rows = table(
        "destination", "waiting", "oldest", "in flight", "next claim", "state", "per minute",
        "interval", "latency", "failures", "last outcome",
        right=("waiting", "oldest", "per minute", "interval", "latency"),
    )  # fmt: skip
    troubles = []
    for one in first(shown, limit or _SHOWN):
        rows.add_row(*_destination(one, concurrency, now_ms))
        troubles.append(trouble_of(one, now_ms))
    if rows.row_count:
        console().print(rows)
    else:
        note(f"no destination {'is in trouble' if trouble else 'was used in the last day'}")
    for each in filter(None, troubles):
        say(str(each))


def _ordered(
    inspector: Inspector, now_ms: float, *, trouble: bool, sort: str | None
) -> Iterator[Destination]:
    """The destinations to show, in order; without `sort`, those in trouble first."""
    ill = {one.name: one for one in inspector.troubled()}
    first_ones = [ill[one.destination] for one in worst(ill.values(), now_ms)]
    if trouble:
        return iter(sorted(first_ones, key=_KEYS[sort]) if sort else first_ones)
    if sort:
        return iter(sorted(inspector.destinations(), key=_KEYS[sort]))
    names = {one.name for one in first_ones}
    others = (one for one in inspector.destinations() if one.name not in names)
    return chain(first_ones, others)


def _document(one: Destination, concurrency: int, now_ms: float) -> dict[str, Any]:
    limit, why = limit_of(one, concurrency)
    trouble = trouble_of(one, now_ms)
    return asdict(one) | {
        "limit": limit,
        "limit_why": why,
        "trouble": trouble and trouble.reason,
        "todo": trouble and trouble.todo,
    }


def _in_flight(one: Destination, concurrency: int) -> str:
    limit, why = limit_of(one, concurrency)
    if limit is None:
        return f"{one.in_flight:,}"
    return f"{one.in_flight:,} of {limit:,}" + ("" if why == "as set" else f" ({why})")


def _destination(one: Destination, concurrency: int, now_ms: float) -> list[str]:
    oldest_ms = None if one.oldest_due_ms is None else now_ms - one.oldest_due_ms
    claim_ms = None if one.next_claim_ms is None else one.next_claim_ms - now_ms
    return [
        printable(one.name),
        f"{one.waiting:,}",
        "-" if oldest_ms is None or oldest_ms < 0 else age(oldest_ms / 1000),
        _in_flight(one, concurrency),
        "-" if claim_ms is None else "now" if claim_ms <= 0 else f"in {age(claim_ms / 1000)}",
        printable(condition(one, now_ms)),
        f"{one.per_minute:,}",
        "-" if one.interval_ms is None else f"{one.interval_ms:,.0f} ms ({one.interval_why})",
        "-" if one.latency_ms is None else f"{one.latency_ms:,} ms",
        ", ".join(f"{reason} {count:,}" for reason, count in one.failures.items()) or "-",
        " ".join([one.last, str(one.last_status or "")]).strip() or "-",
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
        return f"paused {told(one.paused_by)}".strip() if one.paused_by else "paused"
    if one.breaker == "half-open":
        return "breaker half-open"
    if one.hold_until_ms is None:
        return "ready"
    left = age(max(0.0, one.hold_until_ms - now_ms) / 1000)
    return f"{_HOLDS.get(one.hold_why, 'on hold')}, for up to {left}"
