"""`callbacks log`: what people did."""

from __future__ import annotations

import click

from callbacks import admin
from callbacks.cli.command import (
    cursor_option,
    json_option,
    limit_option,
    note,
    parts,
    print_json_array,
    print_rows,
    table,
)
from callbacks.cli.listing import tell_of_more
from callbacks.text import moment, printable


@click.command()
@limit_option(default=50)
@cursor_option
@json_option
def log(limit: int, cursor: str | None, as_json: bool) -> None:
    """Show what people did, the newest first.

    That is pause, resume, cancel, dead replay, dead purge and audit --repair: when, who, to what,
    and why (--reason, --why). The last 1,000 are kept; workers log each one, too (event
    `operator`).
    """
    parts()
    acts = admin.log(limit=limit, cursor=cursor)
    if as_json:
        print_json_array(map(admin.document, acts))
    elif acts:
        rows = table("at", "who", "act", "target", "count", "reason", right=("count",))
        for act in acts:
            rows.add_row(*_row(act))
        print_rows(rows)
    else:
        note("nobody has done anything yet")
    tell_of_more(acts.cursor, limit)


def _row(act: admin.Act) -> list[str]:
    count = "" if act.count is None else f"{act.count:,}"
    words = (act.who, act.act, act.target, count, act.reason)
    return [moment(act.at), *(printable(word) or "-" for word in words)]
