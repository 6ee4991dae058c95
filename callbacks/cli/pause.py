"""`callbacks pause`: stop sending, to every destination or to one."""

from __future__ import annotations

import click

from callbacks.batcher import scopes
from callbacks.batcher.journal import entry_of
from callbacks.batcher.scopes import ScopeResult
from callbacks.cli.command import (
    in_scope,
    json_option,
    note,
    parts,
    print_json,
    reason_option,
    say,
    who,
)
from callbacks.request.urls import display_url
from callbacks.text import many


@click.command()
@click.argument("target", required=False, metavar="[DESTINATION]")
@reason_option
@json_option
@click.pass_context
def pause(context: click.Context, target: str | None, why: str, as_json: bool) -> None:
    """Stop sending, to every destination or to one.

    https://host is the host with all its lanes, including lanes first used later;
    https://host#lane is one lane, https://host# the host without its lanes. A URL with a path
    means its destination. Requests in flight are completed, and counted in the output.
    """
    scope = in_scope(context, None, target)
    entry = entry_of("pause", scope.name if scope else "all", who=who(), reason=why)
    done = scopes.pause(parts().batcher, scope, entry=entry)
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
    if scope and target and path_of(target) and not path_of(scope.name):
        note(f"this covers every URL of the destination, not only {display_url(target)}")
    if not done.seen:
        note("nothing is queued for it or was sent to it in the last day; check the spelling")


def path_of(target: str) -> str:
    """The path of a URL or destination, without its first slash; may be empty."""
    return target.partition("://")[2].partition("#")[0].partition("?")[0].partition("/")[2]


def named(name: str, done: ScopeResult) -> str:
    """What was paused or resumed, with its number of lanes (or paths), and "is" or "are"."""
    lanes = sum("#" in lane for lane in done.lanes)
    counts = ((lanes, "lane"), (len(done.lanes) - lanes, "path"))
    more = [many(count, noun) for count, noun in counts if count]
    return f"{' and '.join([name, *more])} {'are' if more else 'is'}"
