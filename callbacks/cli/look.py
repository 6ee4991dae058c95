"""`callbacks show`, `list`, `destinations` and `audit`: read the books, change nothing."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import islice
from typing import Any

import click
from rich.table import Table

from callbacks.books import Books, Destination, Status, find, overview
from callbacks.cli.command import (
    DESTINATION,
    REASON,
    Failure,
    console,
    json_option,
    note,
    parts,
    print_json,
    print_json_array,
    say,
    table,
)
from callbacks.cli.text import age, distance, many, moment, printable, when
from callbacks.model import Reason, Request, State
from callbacks.payload import unpack
from callbacks.runtime import Runtime
from callbacks.urls import display_url

# One callback


def request_of(found: Runtime, id: str) -> Request | None:
    """The frozen request, where it is still kept."""
    packed = found.client.get(found.batcher.scripts.keys.of("cb:", id))
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
    match status.state, status.phase:
        case State.QUEUED, _ if at is not None and at > now_s:
            return f"is due {when(at, now_s)}, then waits for its batch"
        case State.QUEUED, _:
            return "waits for its batch"
        case State.PROCESSING, "sending":
            return "a request is in flight"
        case State.PROCESSING, "retry" if at is not None:
            return f"will be tried again {when(at, now_s)}"
        case State.PROCESSING, _ if at is not None:
            return f"is claimed, to be sent {when(at, now_s)}"
        case State.DEAD, _:
            return f"nothing, unless replayed: callbacks dead replay --id {status.id}"
        case _:
            return "nothing"


@click.command()
@click.argument("id")
@json_option
def show(id: str, as_json: bool) -> None:
    """Show one callback: its state, every attempt with its duration in ms, and what comes next."""
    found = parts()
    status = find(found.batcher.scripts, id)
    if status is None:
        raise Failure(f"{id} is unknown")
    request = shown_request(request_of(found, id))
    following = next_step(status, time.time())
    if as_json:
        print_json(asdict(status) | request | {"next": following})
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
        "detail": status.detail,
        "attempts": f"{status.attempts} begun, {status.retries} of them retries, "
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


def first(statuses: Iterator[Status], limit: int | None) -> Iterator[Status]:
    """Pass on so many, and say where there are more."""
    yield from islice(statuses, limit)
    if limit is not None and next(statuses, None) is not None:
        note(f"the first {limit:,} are shown; see --limit")


def print_statuses(statuses: Iterable[Status], as_json: bool) -> None:
    """Print callbacks as one JSON array or as a table."""
    if as_json:
        print_json_array(asdict(status) for status in statuses)
        return
    now_s = time.time()
    rows = table("id", "state", "attempts", "status", "reason", "when", "destination", "detail")
    for one in statuses:
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


@click.command("list")
@click.argument("state", type=click.Choice([state.value for state in State]))
@click.option("--destination", type=DESTINATION, help="Only those for this destination.")
@click.option("--reason", type=REASON, help="Only those with this reason.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=50, show_default=True, help="Show at most so many."
)
@json_option
def list_(
    state: str, destination: str | None, reason: str | None, limit: int, as_json: bool
) -> None:
    """List the callbacks in a state, oldest first; with --json as one array."""
    statuses = Books(parts().batcher.scripts).statuses(
        State(state), destination=destination, reason=Reason(reason) if reason else None
    )
    print_statuses(first(statuses, limit), as_json)


# Destinations


@click.command()
@json_option
def destinations(as_json: bool) -> None:
    """Show each destination in use: what waits, what is in flight, its holds and last outcome."""
    found = Books(parts().batcher.scripts).destinations()
    if as_json:
        print_json_array(asdict(one) for one in found)
        return
    now_ms = time.time() * 1000
    rows = table(
        "destination", "waiting", "oldest", "in flight", "next claim", "state", "last outcome",
        right=("waiting", "oldest", "in flight"),
    )  # fmt: skip
    for one in found:
        rows.add_row(*_destination(one, now_ms))
    if found:
        console().print(rows)
    else:
        note("no destination was used within a day")


def _destination(one: Destination, now_ms: float) -> list[str]:
    oldest_ms = None if one.oldest_due_ms is None else now_ms - one.oldest_due_ms
    claim_ms = None if one.next_claim_ms is None else one.next_claim_ms - now_ms
    state = "ready"
    if one.paused:
        state = "paused"
    elif one.hold_until_ms is not None:
        state = f"on hold for {age(max(0.0, one.hold_until_ms - now_ms) / 1000)}"
    return [
        printable(one.name),
        f"{one.waiting:,}",
        "-" if oldest_ms is None or oldest_ms < 0 else age(oldest_ms / 1000),
        f"{one.in_flight:,}",
        "-" if claim_ms is None else "now" if claim_ms <= 0 else f"in {age(claim_ms / 1000)}",
        state,
        one.last or "-",
    ]


# Audit


@click.command()
@json_option
def audit(as_json: bool) -> None:
    """Hold every structure against every other and the counters; exit 1 where they differ."""
    scripts = parts().batcher.scripts
    wrong = 0

    def counted() -> Iterator[str]:
        nonlocal wrong
        for wrong, problem in enumerate(Books(scripts).audit(), start=1):
            yield problem

    if as_json:
        print_json_array(counted())
    else:
        for problem in counted():
            say(problem)
    if wrong:
        raise Failure(f"the books do not balance: {many(wrong, 'problem')}")
    if not as_json:
        o = overview(scripts)
        say(
            f"the books balance: {o.queued:,} queued, {o.processing:,} processing, "
            f"{o.sent_records:,} sent or cancelled, {o.dead:,} dead, and the totals"
        )
