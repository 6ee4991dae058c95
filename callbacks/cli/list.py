"""`callbacks list`: the callbacks in a state."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from callbacks import admin
from callbacks.cli.command import (
    cursor_option,
    filter_options,
    json_option,
    limit_option,
    parts,
)
from callbacks.cli.listing import print_page, up_to
from callbacks.model import State


@click.command("list")
@click.argument("state", type=click.Choice([state.value for state in State]))
@filter_options
@limit_option(default=50)
@cursor_option
@json_option
def list_(
    state: str,
    *,
    limit: int,
    cursor: str | None,
    as_json: bool,
    **given: Any,
) -> None:
    """List the callbacks in a state.

    Sent, dead and cancelled ones: the newest first; queued ones in the order in which they expire,
    which is that of their arrival unless --expires-in was given. With --json they are one array,
    which may be empty. If there are more, a line on stderr has the --cursor to go on with.
    """
    parts()
    page = up_to(partial(admin.list, State(state), **given), limit, cursor)
    print_page(page, limit, given["destination"], as_json)
