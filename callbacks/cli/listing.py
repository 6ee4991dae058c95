"""Prints callbacks as a table or as JSON, for the commands that list them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import islice
from typing import Final, TypeVar

from callbacks.batcher.audit import REQUEST_GONE
from callbacks.batcher.inspector import Status
from callbacks.cli.command import console, note, print_json_array, say, table
from callbacks.model import State
from callbacks.policy.outcome import hint
from callbacks.text import distance, printable

_T = TypeVar("_T")

_PHASES: Final = {"retry": "waiting to retry", "sending": "in flight"}


def hint_for(status: Status, *, authorized: bool | None = None) -> str | None:
    """What to do about a callback that failed; None if it has no reason.

    `authorized`: whether its request has an `Authorization` header, None if it was not read.
    """
    if status.detail == REQUEST_GONE:
        return "its request was deleted from Redis; find out what did that, and enqueue it again"
    if not status.reason:
        return None
    return hint(status.reason, status.status, authorized=authorized)


def state_of(status: Status) -> str:
    """The state as shown; within `processing`, also what the callback is waiting for."""
    if status.state is not State.PROCESSING:
        return status.state
    return f"{status.state} ({_PHASES.get(status.phase, status.phase)})"


def first(found: Iterator[_T], limit: int | None) -> Iterator[_T]:
    """Yield at most `limit` items, and print a note if there are more."""
    yield from islice(found, limit)
    if limit is not None and next(found, None) is not None:
        note(f"only the first {limit:,} are shown; use --limit for more")


def print_statuses(statuses: Iterable[Status], as_json: bool) -> None:
    """Print callbacks as one JSON array or as a table."""
    if as_json:
        print_json_array(asdict(status) | {"hint": hint_for(status)} for status in statuses)
        return
    now_s = time.time()
    rows = table(
        "id", "state", "attempts", "status", "reason", "due or ended", "destination", "detail"
    )
    hints: set[tuple[str, str]] = set()
    for one in statuses:
        if one.reason and (todo := hint_for(one)):
            hints.add((one.reason, todo))
        at = one.ended_at if one.ended_at is not None else one.next_attempt_at
        rows.add_row(
            one.id,
            state_of(one),
            str(one.attempts),
            str(one.status or "-"),
            one.reason or "-",
            "now" if at is None else distance(at, now_s),
            printable(one.destination),
            printable(one.detail or one.said),
        )
    if rows.row_count:
        console().print(rows)
    else:
        note("no callbacks found")
    for reason, words in sorted(hints):
        say(f"{reason}: {words}")
