"""`callbacks show`, `list`, `destinations` and `audit`: read the books, change nothing."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import islice
from typing import Any, Final, TypeVar

import click
from rich.table import Table

from callbacks.audit import audit as find_problems
from callbacks.audit import repair as put_right
from callbacks.books import Books, Destination, Status, find, overview
from callbacks.cli.command import (
    REASON,
    Failure,
    console,
    in_scope,
    json_option,
    note,
    parts,
    print_json,
    print_json_array,
    say,
    table,
)
from callbacks.cli.words import ID
from callbacks.model import Reason, Request, State
from callbacks.payload import unpack
from callbacks.runtime import Runtime
from callbacks.text import age, distance, many, moment, printable, when
from callbacks.urls import Scope, display_url
from callbacks.verdicts import hint

#: Destinations in one table: laying out 100,000 takes minutes.
_SHOWN: Final = 100

_T = TypeVar("_T")

# One callback


def request_of(found: Runtime, id: str) -> Request | None:
    """The frozen request, where it is still kept."""
    packed: Any = found.client.get(found.batcher.scripts.keys.of("cb:", id))
    return None if packed is None else unpack(packed)


def shown_request(request: Request | None) -> dict[str, Any]:
    """What may be shown of a request: no user info or query, no header values, no body."""
    if request is None:
        return {"url": None, "environment": None, "header_names": None, "body_bytes": None}
    return {
        "url": display_url(request.callback_url),
        "environment": request.environment,
        "header_names": [name for name, _ in request.headers],
        "body_bytes": len(request.body),
    }


def next_step(status: Status, now_s: float) -> str:
    """Say what comes next, in one sentence."""
    at = status.next_attempt_at
    place = "" if at is None else when(at, now_s)
    sentences = {
        "queued": "waits for its batch",
        "claimed": f"is claimed, to be sent {place}",
        "retry": f"will be tried again {place}",
        "sending": "a request is in flight",
        "dead": f"nothing, unless replayed: callbacks dead replay --id {status.id}",
    }
    if status.state is State.QUEUED and at is not None and at > now_s:
        return f"is due {place}, then waits for its batch"
    return sentences.get(status.phase, "nothing")


def _held(found: Runtime, status: Status) -> str | None:
    """Say what holds a queued callback up, beside its batch."""
    if status.state is not State.QUEUED:
        return None
    scripts = found.batcher.scripts
    if found.batcher.look().paused:
        return "everything is paused: callbacks resume"
    destination = Books(scripts).destination(status.destination)
    if destination.paused:
        return f"its destination is paused: callbacks resume {status.destination}"
    if destination.breaker == "open" or destination.hold_why == "secret":
        return f"its destination: {_condition(destination, time.time() * 1000)}"
    return None


def _hint(status: Status) -> str | None:
    return hint(status.reason) if status.reason else None


@click.command()
@click.argument("id", type=ID)
@json_option
def show(id: str, as_json: bool) -> None:
    """Show one callback, its attempts, and what comes next.

    Durations are milliseconds. Of its headers only the names are shown.
    """
    found = parts()
    status = find(found.batcher.scripts, id)
    if status is None:
        raise Failure(f"{id} is unknown")
    request = shown_request(request_of(found, id))
    following = _held(found, status) or next_step(status, time.time())
    if as_json:
        print_json(asdict(status) | request | {"hint": _hint(status), "next": following})
        return
    screen = console()
    screen.print(_facts(status, request, following))
    if status.history:
        screen.print()
        screen.print(_attempts(status))


def _facts(status: Status, request: dict[str, Any], following: str) -> Table:
    now_s = time.time()
    facts: dict[str, str | None] = {
        "id": status.id,
        "state": f"{status.state} ({status.phase})"
        if status.state is State.PROCESSING
        else status.state,
        "next": following,
        "destination": status.destination,
        "url": request["url"],
        "reason": status.reason,
        "hint": _hint(status),
        "detail": status.detail,
        "attempts": f"{status.attempts} begun, {status.retries} retries granted, "
        f"{status.crashes} crashed",
        "environment": request["environment"],
        "headers": ", ".join(request["header_names"] or ()),
        "body": None if request["body_bytes"] is None else many(request["body_bytes"], "byte"),
        "expires": None if status.expires_at is None else when(status.expires_at, now_s),
        "ended": None if status.ended_at is None else when(status.ended_at, now_s),
    }
    grid = Table.grid(padding=(0, 2))
    for name, fact in facts.items():
        if fact:
            grid.add_row(name, printable(fact))
    return grid


def _attempts(status: Status) -> Table:
    attempts = table("attempt", "at", "outcome", "status", "reason", "ms", right=("attempt", "ms"))
    for one in status.history:
        attempts.add_row(
            str(one.attempt),
            moment(one.at_ms / 1000),
            one.outcome,
            str(one.status or "-"),
            one.reason or "-",
            f"{one.duration_ms:,}",
        )
    return attempts


# Many callbacks


def first(found: Iterator[_T], limit: int | None) -> Iterator[_T]:
    """Pass on so many, and say where there are more."""
    yield from islice(found, limit)
    if limit is not None and next(found, None) is not None:
        note(f"the first {limit:,} are shown; see --limit")


def print_statuses(statuses: Iterable[Status], as_json: bool) -> None:
    """Print callbacks as one JSON array or as a table."""
    if as_json:
        print_json_array(asdict(status) | {"hint": _hint(status)} for status in statuses)
        return
    now_s = time.time()
    rows = table("id", "state", "attempts", "status", "reason", "when", "destination", "detail")
    hints: dict[str, str] = {}
    for one in statuses:
        if one.reason and (todo := hint(one.reason)):
            hints[one.reason] = todo
        at = one.ended_at if one.ended_at is not None else one.next_attempt_at
        rows.add_row(
            one.id,
            one.phase if one.state is State.PROCESSING else one.state,
            str(one.attempts),
            str(one.status or "-"),
            one.reason or "-",
            "now" if at is None else distance(at, now_s),
            printable(one.destination),
            printable(one.detail),
        )
    if rows.row_count:
        console().print(rows)
    else:
        note("there are none")
    for reason, words in sorted(hints.items()):
        say(f"{reason}: {words}")


@click.command("list")
@click.argument("state", type=click.Choice([state.value for state in State]))
@click.option(
    "--destination",
    "scope",
    callback=in_scope,
    help="Only those for this destination, a host with its lanes.",
)
@click.option("--reason", type=REASON, help="Only those with this reason.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    help="Show at most so many.",
)
@json_option
def list_(state: str, scope: Scope | None, reason: str | None, limit: int, as_json: bool) -> None:
    """List the callbacks in a state, oldest first.

    With --json they are one array, also where there are none.
    """
    statuses = Books(parts().batcher.scripts).statuses(
        State(state), scope=scope, reason=Reason(reason) if reason else None
    )
    print_statuses(first(statuses, limit), as_json)


# Destinations


@click.command()
@click.option("--limit", type=click.IntRange(min=1), help="At most so many.")
@json_option
def destinations(limit: int | None, as_json: bool) -> None:
    """Show each destination that waits or was used within a day.

    Without --limit it shows 100, and with --json all, as one array.
    """
    found = Books(parts().batcher.scripts).destinations()
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
        note("no destination was used within a day")


def _destination(one: Destination, now_ms: float) -> list[str]:
    oldest_ms = None if one.oldest_due_ms is None else now_ms - one.oldest_due_ms
    claim_ms = None if one.next_claim_ms is None else one.next_claim_ms - now_ms
    return [
        printable(one.name),
        f"{one.waiting:,}",
        "-" if oldest_ms is None or oldest_ms < 0 else age(oldest_ms / 1000),
        f"{one.in_flight:,}",
        "-" if claim_ms is None else "now" if claim_ms <= 0 else f"in {age(claim_ms / 1000)}",
        _condition(one, now_ms),
        f"{one.per_minute:,}",
        "-" if one.interval_ms is None else f"{one.interval_ms:,.0f} ms ({one.interval_why})",
        "-" if one.latency_ms is None else f"{one.latency_ms:,} ms",
        f"{one.faults:,}",
        one.last or "-",
    ]


_HOLDS = {"full": "full", "park": "asked to wait", "breaker": "breaker open", "secret": "no secret"}


def _condition(one: Destination, now_ms: float) -> str:
    if one.paused:
        return "paused"
    if one.breaker == "half-open":
        return "breaker half-open"
    if one.hold_until_ms is None:
        return "ready"
    left = age(max(0.0, one.hold_until_ms - now_ms) / 1000)
    return f"{_HOLDS.get(one.hold_why, 'on hold')}, {left} more at most"


# Audit


@click.command()
@click.option("--repair", is_flag=True, help="Put right what can be, and say what was done.")
@json_option
def audit(repair: bool, as_json: bool) -> None:
    """Hold every structure against every other and the totals.

    Prints what is wrong, a line each, and exits with 1 where the books do not balance. With
    `--repair` nothing that could still be sent is dropped, and workers may go on meanwhile.
    """
    batcher = parts().batcher
    lines = (f"{finding}; {done}" for finding, done in put_right(batcher)) if repair else ()
    mended = _print_lines(lines, as_json) if repair else 0
    left = find_problems(Books(batcher.scripts))
    count = sum(1 for _ in left) if repair and as_json else _print_lines(left, as_json)
    if count:
        raise Failure(f"the books do not balance: {many(count, 'problem')}")
    if not as_json:
        o = overview(batcher.scripts)
        say(
            f"the books balance: {o.queued:,} queued, {o.processing:,} processing, "
            f"{o.sent_records:,} sent or cancelled, {o.dead:,} dead, and the totals"
            + (f"; {many(mended, 'problem')} put right" if repair else "")
        )


def _print_lines(lines: Iterable[str], as_json: bool) -> int:
    if as_json:
        return print_json_array(lines)
    count = 0
    for line in lines:
        count += 1
        say(line)
    return count
