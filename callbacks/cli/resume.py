"""`callbacks resume`: start sending again."""

from __future__ import annotations

import click

from callbacks import admin
from callbacks.cli.arguments import DESTINATION
from callbacks.cli.command import (
    json_option,
    note,
    parts,
    print_json,
    reason_option,
    say,
)
from callbacks.cli.pause import covered
from callbacks.request.urls import path_of


@click.command()
@click.argument("target", required=False, metavar="[DESTINATION|URL]", type=DESTINATION)
@reason_option
@json_option
def resume(target: str | None, why: str, as_json: bool) -> None:
    """Start sending again, to every destination or to one.

    Resuming a destination also ends its hold, closes its breaker and resets its interval; a
    host is resumed with all its lanes. Resuming a URL (with a path) clears its 410 mark and
    does nothing else.
    """
    parts()
    done = admin.resume(target, why=why)
    if as_json:
        document = admin.document(done)
        print_json({"resumed": document.pop("target"), **document})
        return
    say(_outcome(done, target))
    if done.still_paused:
        note(f"its destination is still paused: callbacks resume {done.destination}")


def _outcome(done: admin.Resumption, target: str | None) -> str:
    if target and path_of(target):
        if done.changed:
            return f"{done.target} is no longer marked as gone"
        return (
            "nothing to resume: this URL is not marked as gone; to resume its destination: "
            f"callbacks resume {done.destination}"
        )
    if done.changed or done.lanes or done.paths:
        return f"{covered(done.destination, done.lanes, done.paths)} resumed"
    if target is None:
        return (
            "nothing to resume: sending is not paused (single destinations: callbacks destinations)"
        )
    return f"nothing to resume: {done.target} is neither paused nor on hold"
