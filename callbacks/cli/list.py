"""`callbacks list`: the callbacks in a state."""

from __future__ import annotations

from functools import partial

import click

from callbacks import admin
from callbacks.cli.command import (
    REASON,
    cursor_option,
    destination_option,
    json_option,
    limit_option,
    parts,
    since_option,
)
from callbacks.cli.listing import print_page, up_to
from callbacks.model import State
from callbacks.when import Moment


@click.command("list")
@click.argument("state", type=click.Choice([state.value for state in State]))
@destination_option
@click.option("--reason", type=REASON, help="Only this reason.")
@since_option
@limit_option(default=50)
@cursor_option
@json_option
def list_(
    state: str,
    *,
    destination: str | None,
    reason: str | None,
    since: Moment | None,
    limit: int,
    cursor: str | None,
    as_json: bool,
) -> None:
    """List the callbacks in a state.

    Sent, dead and cancelled ones: the newest first; queued ones in the order in which they expire,
    which is that of their arrival unless --expires-in was given. With --json they are one array,
    which may be empty. If there are more, a line on stderr has the --cursor to go on with.
    """
    parts()
    read = partial(admin.list, State(state), destination=destination, reason=reason, since=since)
    print_page(up_to(read, limit, cursor), limit, destination, as_json)
