"""`callbacks cancel`: a callback is not sent, or not again."""

from __future__ import annotations

import click

from callbacks.batcher.inspector import find
from callbacks.cli.arguments import ID
from callbacks.cli.command import Failure, json_option, parts, print_json, say
from callbacks.model import Cancelled


@click.command()
@click.argument("id", type=ID)
@json_option
def cancel(id: str, as_json: bool) -> None:
    """See to it that a callback is not sent, or not again."""
    found = parts()
    outcome = found.batcher.cancel(id)
    if outcome is Cancelled.UNKNOWN:
        raise Failure(f"{id} is unknown")
    if outcome is Cancelled.FINAL:
        status = find(found.batcher.scripts, id)
        raise Failure(f"{id} is {status.state if status else 'forgotten'} already")
    in_flight = outcome is Cancelled.IN_FLIGHT
    if as_json:
        print_json({"id": id, "cancelled": not in_flight, "in_flight": in_flight})
    elif in_flight:
        say(f"{id} is being sent right now; there will be no further attempt")
    else:
        say(f"{id} is cancelled")
