"""Prints callbacks as a table or as JSON, for the commands that list them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final, Protocol

from callbacks import admin
from callbacks.batcher.inspector import Status
from callbacks.cli.command import note, print_json_array, print_rows, say, table
from callbacks.monitor.story import hint_for, state_of
from callbacks.request.urls import host_of, lanes_and_paths
from callbacks.text import distance, many, printable, with_lanes

#: Callbacks asked for at a time: more than one page where many are shown.
_STEP: Final = 1_000


class _Read(Protocol):
    def __call__(self, *, limit: int, cursor: str | None) -> admin.Page[Status]: ...


def up_to(read: _Read, limit: int | None, cursor: str | None) -> admin.Page[Status]:
    """Read pages until there are `limit` callbacks, or all; the cursor is that of the rest."""
    items: list[Status] = []
    while limit is None or len(items) < limit:
        left = _STEP if limit is None else min(_STEP, limit - len(items))
        page = read(limit=left, cursor=cursor)
        items += page.items
        cursor = page.cursor
        if cursor is None:
            break
    return admin.Page(tuple(items), cursor)


def tell_of_more(cursor: str | None, limit: int | None) -> None:
    """Print a note if there are more than are shown."""
    if cursor is not None:
        note(f"only {limit or 0:,} are shown; --limit N shows more, and --cursor {cursor} the next")


def print_page(
    page: admin.Page[Status], limit: int | None, destination: str | None, as_json: bool
) -> None:
    """Print callbacks, whose they are if a destination was named, and if there are more."""
    print_statuses(page, as_json)
    if destination and page:
        note(f"{many(len(page), 'callback')} of {_places(page)}")
    tell_of_more(page.cursor, limit)


def _places(page: admin.Page[Status]) -> str:
    """The destination, or the host with how many of its lanes and paths."""
    names = sorted({one.destination for one in page})
    if len(names) == 1:
        return names[0]
    return with_lanes(host_of(names[0]), *lanes_and_paths(names))


def print_statuses(statuses: Iterable[Status], as_json: bool) -> None:
    """Print callbacks as one JSON array or as a table."""
    if as_json:
        print_json_array(admin.document(one) | {"hint": hint_for(one)} for one in statuses)
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
        print_rows(rows)
    else:
        note("no callbacks found")
    for reason, words in sorted(hints):
        say(f"{reason}: {words}")
