"""`callbacks show`: one callback, its attempts, and what comes next."""

from __future__ import annotations

import time

import click
from rich.table import Table

from callbacks import admin
from callbacks.batcher.inspector import Status
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
from callbacks.monitor.story import state_of
from callbacks.policy import timing
from callbacks.request.urls import display_url
from callbacks.text import counted, many, printable, when
from callbacks.text import moment as instant


@click.command()
@click.argument("id", type=ID)
@json_option
def show(id: str, as_json: bool) -> None:
    """Show one callback, its attempts, and what comes next.

    Of each attempt it says where its time went, from when it was due to the answer; the parts add
    up to the whole. Of its headers only the names are shown, of its URL no query.
    """
    parts()
    story = admin.show(id)
    if story is None:
        raise Failure(unknown(id))
    if as_json:
        document = admin.document(story)
        print_json(document.pop("status") | document)
        return
    screen = console()
    screen.print(_facts(story))
    if story.status.history:
        screen.print()
        screen.print(_attempts(story.status))
        for line in _times(story.status):
            screen.print(line)


def _times(status: Status) -> list[str]:
    """Where the time of each attempt went, in a line each."""
    return [
        f"time of {one.attempt}: {timing.told(one.timing)}" for one in status.history if one.timing
    ]


def _facts(story: admin.Story) -> Table:
    status, now_s = story.status, time.time()
    facts: dict[str, str | None] = {
        "id": status.id,
        "state": state_of(status),
        "next": story.next,
        "destination": status.destination,
        "url": display_url(status.callback_url),
        "event": status.event,
        "reason": status.reason,
        "hint": story.hint,
        "detail": status.detail,
        "it said": status.said,
        "attempts": f"{status.attempts} ({counted(status.retries, 'retry', 'retries')} used, "
        f"{counted(status.crashes, 'crash', 'crashes')})",
        "environment": status.environment,
        "headers": ", ".join(story.header_names or ()),
        "body": None if story.body_bytes is None else many(story.body_bytes, "byte"),
        "created": None if status.created_at is None else when(status.created_at, now_s),
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
        "attempt", "at", "outcome", "status", "reason", "waited", "ms", "the receiver said",
        right=("attempt", "waited", "ms"),
    )  # fmt: skip
    for one in status.history:
        attempts.add_row(
            str(one.attempt),
            instant(one.at),
            one.outcome,
            str(one.status or "-"),
            one.reason or "-",
            f"{one.timing.waited * 1_000:,.0f}" if one.timing else "-",
            f"{one.duration * 1_000:,.0f}",
            printable(one.said) or "-",
        )
    return attempts
