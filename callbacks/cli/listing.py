"""Callbacks as a table or as JSON, for the commands that list them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import islice
from typing import TypeVar

from callbacks.batcher.inspector import Status
from callbacks.cli.command import console, note, print_json_array, say, table
from callbacks.model import State
from callbacks.policy.outcome import hint
from callbacks.text import distance, printable

_T = TypeVar("_T")


def hint_for(status: Status) -> str | None:
    """What the reason of a callback suggests to look at; None where it has none."""
    return hint(status.reason) if status.reason else None


def first(found: Iterator[_T], limit: int | None) -> Iterator[_T]:
    """Pass on so many, and say where there are more."""
    yield from islice(found, limit)
    if limit is not None and next(found, None) is not None:
        note(f"the first {limit:,} are shown; see --limit")


def print_statuses(statuses: Iterable[Status], as_json: bool) -> None:
    """Print callbacks as one JSON array or as a table."""
    if as_json:
        print_json_array(asdict(status) | {"hint": hint_for(status)} for status in statuses)
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
