"""`callbacks list`: the callbacks in a state."""

from __future__ import annotations

import click

from callbacks.batcher.inspector import Inspector
from callbacks.cli.command import REASON, in_scope, json_option, limit_option, parts
from callbacks.cli.listing import first, print_statuses
from callbacks.model import Reason, State
from callbacks.request.urls import Scope


@click.command("list")
@click.argument("state", type=click.Choice([state.value for state in State]))
@click.option(
    "--destination",
    "scope",
    callback=in_scope,
    help="Only this destination; a host includes its lanes.",
)
@click.option("--reason", type=REASON, help="Only this reason.")
@limit_option(default=50)
@json_option
def list_(state: str, scope: Scope | None, reason: str | None, limit: int, as_json: bool) -> None:
    """List the callbacks in a state, oldest first.

    With --json they are one array, which may be empty.
    """
    statuses = Inspector(parts().batcher.scripts).statuses(
        State(state), scope=scope, reason=Reason(reason) if reason else None
    )
    print_statuses(first(statuses, limit), as_json)
