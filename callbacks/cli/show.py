"""`callbacks show`: one callback, its attempts, and what comes next."""

from __future__ import annotations

import time

import click
from rich.table import Table

from callbacks import admin
from callbacks.admin.facts import facts_of
from callbacks.batcher.inspector import Status
from callbacks.cli.arguments import ID
from callbacks.cli.command import (
    Failure,
    json_option,
    parts,
    print_json,
    print_rows,
    table,
    unknown,
)
from callbacks.monitor.story import state_of
from callbacks.policy import timing
from callbacks.text import moment as instant
from callbacks.text import printable


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
    print_rows(_facts(story))
    if story.status.history:
        print_rows("", _attempts(story.status), *_times(story.status))


def _times(status: Status) -> list[str]:
    """Where the time of each attempt went, in a line each."""
    return [
        f"time of {one.attempt}: {timing.told(one.timing)}" for one in status.history if one.timing
    ]


def _facts(story: admin.Story) -> Table:
    status = story.status
    place = {"id": status.id, "state": state_of(status), "destination": status.destination}
    headers = {"headers": ", ".join(story.header_names)} if story.header_names else {}
    grid = Table.grid(padding=(0, 2))
    for name, fact in (place | facts_of(story, time.time()) | headers).items():
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
