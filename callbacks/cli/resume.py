"""`callbacks resume`: start sending again."""

from __future__ import annotations

import click

from callbacks.batcher import scopes
from callbacks.batcher.inspector import Inspector
from callbacks.batcher.scopes import ScopeResult
from callbacks.cli.command import in_scope, json_option, note, parts, print_json, say
from callbacks.cli.pause import named
from callbacks.request.urls import Scope, display_url, normal_url


@click.command()
@click.argument("target", required=False, metavar="[DESTINATION|URL]")
@json_option
@click.pass_context
def resume(context: click.Context, target: str | None, as_json: bool) -> None:
    """Start sending again, to all or to one destination.

    Resuming a destination also ends its wait, closes its breaker and resets its interval; a
    host is resumed with all its lanes. Resuming a URL (with a path) lifts the mark that it is
    gone, and nothing else.
    """
    found = parts()
    scope = in_scope(context, None, target)
    path = (target or "").partition("://")[2].partition("#")[0].partition("/")[2]
    done, forgiven = ScopeResult(changed=False), False
    if target and path:
        forgiven = found.batcher.forgive(normal_url(target))
    if not path or (scope and "/" in scope.name.partition("://")[2]):  # shared: it is both
        done = scopes.resume(found.batcher, scope)
    found.messages.check(0)
    what = display_url(normal_url(target)) if target and path else scope and scope.name
    changed = done.changed or forgiven
    if as_json:
        print_json({"resumed": what or "all", "lanes": len(done.lanes), "changed": changed})
        return
    if path and changed:
        say(f"{what} is not marked as gone any more")
    elif changed or done.lanes:
        say(f"{named(scope.name, done) if scope else 'everything is'} resumed")
    else:
        say(_nothing_to_resume(scope, path))
    if path and scope and Inspector(found.batcher.scripts).destination(scope.name).paused:
        note(f"its destination is paused: callbacks resume {scope.name}")


def _nothing_to_resume(scope: Scope | None, path: str) -> str:
    if scope is None:
        return "it was not paused as a whole; destinations may be (callbacks destinations)"
    if path:
        return f"that URL has no mark that it is gone; its destination is {scope.name}"
    return f"{scope.name} was neither paused nor on hold"
