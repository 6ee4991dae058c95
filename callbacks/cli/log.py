"""`callbacks log`: what people did."""

from __future__ import annotations

from dataclasses import asdict

import click

from callbacks.batcher.journal import Act, read_journal
from callbacks.cli.command import (
    console,
    json_option,
    limit_option,
    note,
    parts,
    print_json_array,
    table,
)
from callbacks.text import moment, printable


@click.command()
@limit_option(default=50)
@json_option
def log(limit: int, as_json: bool) -> None:
    """Show what people did, the newest first.

    That is pause, resume, cancel, dead replay, dead purge and audit --repair: when, who, to what,
    and why (--reason). The last 1,000 are kept; workers log each one, too (event `operator`).
    """
    acts = read_journal(parts().batcher.scripts, limit)
    if as_json:
        print_json_array(asdict(act) for act in acts)
        return
    if not acts:
        note("nobody has done anything yet")
        return
    rows = table("at", "who", "act", "target", "count", "reason", right=("count",))
    for act in acts:
        rows.add_row(*_row(act))
    console().print(rows)


def _row(act: Act) -> list[str]:
    count = "" if act.count is None else f"{act.count:,}"
    words = (act.who, act.act, act.target, count, act.reason)
    return [moment(act.at_ms / 1000), *(printable(word) or "-" for word in words)]
