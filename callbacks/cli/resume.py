"""`callbacks resume`: start sending again."""

from __future__ import annotations

import click

from callbacks.batcher import scopes
from callbacks.batcher.inspector import Inspector
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
from callbacks.cli.pause import named, path_of
from callbacks.request.urls import Scope, display_url, normal_url


@click.command()
@click.argument("target", required=False, metavar="[DESTINATION|URL]")
@reason_option
@json_option
@click.pass_context
def resume(context: click.Context, target: str | None, why: str, as_json: bool) -> None:
    """Start sending again, to every destination or to one.

    Resuming a destination also ends its hold, closes its breaker and resets its interval; a
    host is resumed with all its lanes. Resuming a URL (with a path) clears its 410 mark and
    does nothing else.
    """
    found = parts()
    scope = in_scope(context, None, target)
    path = path_of(target or "")
    done, forgiven = ScopeResult(changed=False), False
    what = display_url(normal_url(target)) if target and path else scope and scope.name
    entry = entry_of("resume", what or "all", who=who(), reason=why)
    if target and path:
        forgiven = found.batcher.forgive(normal_url(target), entry=entry)
        entry = ""  # once for both
    if not path or (scope and path_of(scope.name)):  # shared: it is both
        done = scopes.resume(found.batcher, scope, entry=entry)
    found.messages.check(0)
    changed = done.changed or forgiven
    if as_json:
        print_json({"resumed": what or "all", "lanes": len(done.lanes), "changed": changed})
        return
    if path and changed:
        say(f"{what} is no longer marked as gone")
    elif changed or done.lanes:
        say(f"{named(scope.name, done) if scope else 'everything is'} resumed")
    else:
        say(_nothing_to_resume(scope, path))
    if path and scope and Inspector(found.batcher.scripts).destination(scope.name).paused:
        note(f"its destination is still paused: callbacks resume {scope.name}")


def _nothing_to_resume(scope: Scope | None, path: str) -> str:
    if scope is None:
        return (
            "nothing to resume: sending is not paused (single destinations: callbacks destinations)"
        )
    if path:
        return (
            "nothing to resume: this URL is not marked as gone; to resume its destination: "
            f"callbacks resume {scope.name}"
        )
    return f"nothing to resume: {scope.name} is neither paused nor on hold"
