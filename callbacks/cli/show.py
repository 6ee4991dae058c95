"""`callbacks show`: one callback, its attempts, and what comes next."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

import click
from rich.table import Table

from callbacks.batcher.audit import REQUEST_GONE
from callbacks.batcher.inspector import Inspector, Status, find, overview
from callbacks.batcher.journal import told
from callbacks.cli.arguments import ID
from callbacks.cli.command import (
    Failure,
    console,
    json_option,
    parts,
    print_json,
    table,
    unknown,
)
from callbacks.cli.destinations import condition
from callbacks.cli.listing import hint_for, state_of
from callbacks.model import Request, State
from callbacks.request.freeze import unpack
from callbacks.request.urls import display_url
from callbacks.runtime import Runtime
from callbacks.text import counted, many, printable, when
from callbacks.text import moment as instant


def request_of(found: Runtime, id: str) -> Request | None:
    """The frozen request, if it is still kept."""
    packed: Any = found.client.get(found.batcher.scripts.keys.of("cb:", id))
    return None if packed is None else unpack(packed)


def shown_request(request: Request | None) -> dict[str, Any]:
    """The parts of a request that may be shown: no user info, query, header values or body."""
    if request is None:
        return {"url": None, "environment": None, "header_names": None, "body_bytes": None}
    return {
        "url": display_url(request.callback_url),
        "environment": request.environment,
        "header_names": [name for name, _ in request.headers],
        "body_bytes": len(request.body),
    }


def is_authorized(request: Request | None) -> bool | None:
    """Whether the request has an `Authorization` header; None if it is no longer kept."""
    if request is None:
        return None
    return any(name.lower() == "authorization" for name, _ in request.headers)


def next_step(status: Status, now_s: float) -> str:
    """What comes next, in one sentence."""
    at = status.next_attempt_at
    moment = "" if at is None else when(at, now_s)
    late = at is not None and at <= now_s
    sentences = {
        "queued": "waits for its batch",
        "claimed": f"claimed; waits for a worker since {moment}" if late else f"sent at {moment}",
        "retry": f"retry due {moment}",
        "sending": "a request is in flight",
        "sent": "nothing: it was delivered",
        "cancelled": "nothing: it was cancelled",
        "dead": f"nothing, unless replayed: callbacks dead replay --id {status.id}",
    }
    if status.state is State.QUEUED and not late and at is not None:
        return f"due {moment}, then waits for its batch"
    if status.state is State.DEAD and status.detail == REQUEST_GONE:
        return "nothing: it cannot be replayed; enqueue it again with a new id"
    return sentences.get(status.phase, "nothing")


def _held(found: Runtime, status: Status) -> str | None:
    """What keeps a queued callback from being claimed with the next batch."""
    if status.state is not State.QUEUED:
        return None
    scripts = found.batcher.scripts
    if found.batcher.look().paused:
        by = overview(scripts).paused_by
        words = f" {told(by)}" if by and told(by) else ""
        return f"everything is paused{words}; callbacks resume"
    destination = Inspector(scripts).destination(status.destination)
    if destination.paused:
        words = condition(destination, time.time() * 1000)
        return f"its destination is {words}; callbacks resume {status.destination}"
    if destination.breaker == "open" or destination.hold_why == "secret":
        return f"its destination: {condition(destination, time.time() * 1000)}"
    return None


@click.command()
@click.argument("id", type=ID)
@json_option
def show(id: str, as_json: bool) -> None:
    """Show one callback, its attempts, and what comes next.

    Durations are in milliseconds. Only the names of its headers are shown.
    """
    found = parts()
    status = find(found.batcher.scripts, id)
    if status is None:
        raise Failure(unknown(id))
    packed = request_of(found, id)
    request, todo = shown_request(packed), hint_for(status, authorized=is_authorized(packed))
    following = _held(found, status) or next_step(status, time.time())
    if as_json:
        print_json(asdict(status) | request | {"hint": todo, "next": following})
        return
    screen = console()
    screen.print(_facts(status, request, following, todo))
    if status.history:
        screen.print()
        screen.print(_attempts(status))


def _facts(status: Status, request: dict[str, Any], following: str, todo: str | None) -> Table:
    now_s = time.time()
    facts: dict[str, str | None] = {
        "id": status.id,
        "state": state_of(status),
        "next": following,
        "destination": status.destination,
        "url": request["url"],
        "reason": status.reason,
        "hint": todo,
        "detail": status.detail,
        "it said": status.said,
        "attempts": f"{status.attempts} ({counted(status.retries, 'retry', 'retries')} used, "
        f"{counted(status.crashes, 'crash', 'crashes')})",
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
    attempts = table(
        "attempt", "at", "outcome", "status", "reason", "ms", "the receiver said",
        right=("attempt", "ms"),
    )  # fmt: skip
    for one in status.history:
        attempts.add_row(
            str(one.attempt),
            instant(one.at_ms / 1000),
            one.outcome,
            str(one.status or "-"),
            one.reason or "-",
            f"{one.duration_ms:,}",
            printable(one.said) or "-",
        )
    return attempts
