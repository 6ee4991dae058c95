"""`callbacks cancel`: keep a callback from being sent, or from being sent again."""

from __future__ import annotations

import click

from callbacks import admin
from callbacks.cli.arguments import LIVE_ID
from callbacks.cli.command import (
    Failure,
    json_option,
    parts,
    print_json,
    reason_option,
    say,
    unknown,
)


@click.command()
@click.argument("id", type=LIVE_ID)
@reason_option
@json_option
def cancel(id: str, why: str, as_json: bool) -> None:
    """Keep a callback from being sent, or from being sent again."""
    parts()
    done = admin.cancel(id, why=why)
    if done.state is None:
        raise Failure(unknown(id))
    if not done.done:
        raise Failure(f"{id} cannot be cancelled: it is already {done.state}")
    if as_json:
        print_json(admin.document(done))
    elif done.in_flight:
        say(f"{id} is being sent right now; there will be no further attempt")
    else:
        say(f"{id} is cancelled")
