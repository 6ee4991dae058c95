"""`callbacks pause`: stop sending, to every destination or to one."""

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
from callbacks.request.urls import display_url, path_of
from callbacks.text import many, with_lanes


@click.command()
@click.argument("target", required=False, metavar="[DESTINATION]", type=DESTINATION)
@reason_option
@json_option
def pause(target: str | None, why: str, as_json: bool) -> None:
    """Stop sending, to every destination or to one.

    https://host is the host with all its lanes, including lanes first used later;
    https://host#lane is one lane, https://host# the host without its lanes. A URL with a path
    means its destination. Requests in flight are completed, and counted in the output.
    """
    parts()
    done = admin.pause(target, why=why)
    if as_json:
        document = admin.document(done)
        print_json({"paused": document.pop("destination"), **document})
        return
    what = covered(done.destination, done.lanes, done.paths)
    say(f"{what} paused; {many(done.in_flight, 'request')} still in flight")
    if target and path_of(target) and not path_of(done.destination):
        note(f"this covers every URL of the destination, not only {display_url(target)}")
    if not done.known:
        note("nothing is queued for it or was sent to it in the last day; check the spelling")


def covered(destination: str, lanes: int, paths: int) -> str:
    """What was paused or resumed, with its number of lanes and paths, and "is" or "are"."""
    if destination == "all":
        return "everything is"
    return f"{with_lanes(destination, lanes, paths)} {'are' if lanes or paths else 'is'}"
