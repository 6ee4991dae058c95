"""`callbacks pause`: stop sending, to all or to one destination."""

from __future__ import annotations

import click

from callbacks.batcher import scopes
from callbacks.batcher.scopes import ScopeResult
from callbacks.cli.command import in_scope, json_option, note, parts, print_json, say
from callbacks.request.urls import Scope
from callbacks.text import many


@click.command()
@click.argument("scope", callback=in_scope, required=False, metavar="[DESTINATION]")
@json_option
def pause(scope: Scope | None, as_json: bool) -> None:
    """Stop sending, to all or to one destination.

    https://host is the host with all its lanes, also those to come; https://host#lane is one
    lane, https://host# the host without its lanes. Requests in flight are ended as usual; how
    many there are is said.
    """
    done = scopes.pause(parts().batcher, scope)
    if as_json:
        print_json(
            {
                "paused": scope.name if scope else "all",
                "lanes": len(done.lanes),
                "in_flight": done.in_flight,
            }
        )
        return
    what = named(scope.name, done) if scope else "everything is"
    say(f"{what} paused; {many(done.in_flight, 'request')} still in flight")
    if not done.seen:
        note("nothing waits for it, and nothing was sent to it within a day: is it spelled right?")


def named(name: str, done: ScopeResult) -> str:
    """Name what was steered, with how many lanes (or paths, on a shared host), and its verb."""
    lanes = sum("#" in lane for lane in done.lanes)
    counts = ((lanes, "lane"), (len(done.lanes) - lanes, "path"))
    more = [many(count, noun) for count, noun in counts if count]
    return f"{' and '.join([name, *more])} {'are' if more else 'is'}"
