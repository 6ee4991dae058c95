"""`callbacks cancel`: keep a callback from being sent, or from being sent again."""

from __future__ import annotations

import click

from callbacks.batcher.inspector import find
from callbacks.batcher.journal import entry_of
from callbacks.cli.arguments import ID
from callbacks.cli.command import (
    Failure,
    json_option,
    parts,
    print_json,
    reason_option,
    say,
    unknown,
    who,
)
from callbacks.model import Cancelled


@click.command()
@click.argument("id", type=ID)
@reason_option
@json_option
def cancel(id: str, why: str, as_json: bool) -> None:
    """Keep a callback from being sent, or from being sent again."""
    found = parts()
    entry = entry_of("cancel", id, who=who(), reason=why)
    outcome = found.batcher.cancel(id, entry=entry)
    if outcome is Cancelled.UNKNOWN:
        raise Failure(unknown(id))
    if outcome is Cancelled.FINAL:
        status = find(found.batcher.scripts, id)
        raise Failure(
            f"{id} cannot be cancelled: it is already {status.state if status else 'gone'}"
        )
    in_flight = outcome is Cancelled.IN_FLIGHT
    if as_json:
        print_json({"id": id, "cancelled": not in_flight, "in_flight": in_flight})
    elif in_flight:
        say(f"{id} is being sent right now; there will be no further attempt")
    else:
        say(f"{id} is cancelled")
