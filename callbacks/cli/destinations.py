"""`callbacks destinations`: each destination and its condition."""

from __future__ import annotations

import time
from typing import Final

import click

from callbacks import admin
from callbacks.cli.command import (
    cursor_option,
    destination_option,
    json_option,
    limit_option,
    note,
    parts,
    print_json_array,
    print_rows,
    say,
    table,
)
from callbacks.cli.listing import tell_of_more
from callbacks.text import age, printable

#: Destinations shown by default: laying out 100,000 takes minutes.
_SHOWN: Final = 100


@click.command()
@destination_option
@click.option("--trouble", is_flag=True, help="Only those in trouble, worst first.")
@click.option(
    "--sort", type=click.Choice(list(admin.SORTS)), help="Largest first; by name from A to Z."
)
@limit_option()
@cursor_option
@json_option
def destinations(
    *,
    destination: str | None,
    trouble: bool,
    sort: str | None,
    limit: int | None,
    cursor: str | None,
    as_json: bool,
) -> None:
    """Show each destination, those in trouble first.

    Shows those used in the last day: 100 unless --limit is given; with --json all, as one array.
    "request limit reached" means that the destination has as many callbacks claimed or in flight
    as it may have (CALLBACKS_DESTINATION_CONCURRENCY, or one until it has answered). Failures are
    those of this hour and the one before.
    """
    parts()
    if as_json and limit is None and cursor is None:
        every = admin.iterate_destinations(destination=destination, trouble=trouble, sort=sort)
        print_json_array(map(admin.document, every))
        return
    limit = limit or _SHOWN
    page = admin.destinations(
        destination=destination, trouble=trouble, sort=sort, limit=limit, cursor=cursor
    )
    if as_json:
        print_json_array(map(admin.document, page))
    else:
        _print(page, trouble)
    tell_of_more(page.cursor, limit)


def _print(page: admin.Page[admin.Destination], trouble: bool) -> None:
    now_s = time.time()
    rows = table(
        "destination", "waiting", "oldest", "in flight", "next claim", "state", "per minute",
        "interval", "latency", "failures", "last outcome",
        right=("waiting", "oldest", "per minute", "interval", "latency"),
    )  # fmt: skip
    for one in page:
        rows.add_row(*_row(one, now_s))
    if rows.row_count:
        print_rows(rows)
    else:
        note(f"no destination {'is in trouble' if trouble else 'was used in the last day'}")
    for one in page:
        if one.trouble:
            say(f"{one.name}: {one.trouble}; {one.todo}")


def _in_flight(one: admin.Destination) -> str:
    if one.limit is None:
        return f"{one.in_flight:,}"
    why = "" if one.limit_why == "as set" else f" ({one.limit_why})"
    return f"{one.in_flight:,} of {one.limit:,}{why}"


def _row(one: admin.Destination, now_s: float) -> list[str]:
    oldest = None if one.oldest_due_at is None else now_s - one.oldest_due_at
    claim = None if one.next_claim_at is None else one.next_claim_at - now_s
    return [
        printable(one.name),
        f"{one.waiting:,}",
        "-" if oldest is None or oldest < 0 else age(oldest),
        _in_flight(one),
        "-" if claim is None else "now" if claim <= 0 else f"in {age(claim)}",
        printable(one.condition),
        f"{one.per_minute:,}",
        "-" if one.interval is None else f"{one.interval * 1_000:,.0f} ms ({one.interval_why})",
        "-" if one.latency is None else f"{one.latency * 1_000:,.0f} ms",
        ", ".join(f"{reason} {count:,}" for reason, count in one.failures.items()) or "-",
        " ".join([one.last, str(one.last_status or "")]).strip() or "-",
    ]
