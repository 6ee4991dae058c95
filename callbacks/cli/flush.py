"""`callbacks flush`: claim a batch now."""

from __future__ import annotations

import click

from callbacks import admin
from callbacks.cli.command import Failure, json_option, parts, print_json, say
from callbacks.text import many


@click.command()
@json_option
def flush(as_json: bool) -> None:
    """Claim a batch now. Workers send its callbacks at the usual pace."""
    parts()
    done = admin.flush()
    if done.refused:
        raise Failure(f"nothing was claimed: {done.why}")
    claimed = len(done.ids)
    if as_json:
        print_json({"claimed": claimed, "ids": list(done.ids)})
    elif claimed:
        say(f"{many(claimed, 'callback')} claimed; workers send each in its slot")
    else:
        say(f"nothing was claimed: {done.why}")
    if done.away:
        raise Failure(f"nothing was claimed of {done.away}, which cannot be reached")
