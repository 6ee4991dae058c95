"""`callbacks flush`, `pause`, `resume`, `cancel` and `cleanup`: move what waits."""

from __future__ import annotations

import random
from typing import Final

import click

from callbacks import steering
from callbacks.batcher import Batcher
from callbacks.books import Books, find
from callbacks.cli.command import Failure, in_scope, json_option, note, parts, print_json, say
from callbacks.cli.words import ID
from callbacks.model import Cancelled, ClaimResult, Recovered
from callbacks.runtime import Runtime
from callbacks.steering import Steered
from callbacks.text import age, many
from callbacks.urls import Scope, display_url, normal_url
from callbacks.work import dispatch_once, expire_once, recover_once

_WHY_NONE: Final = {
    ClaimResult.PAUSED: "everything is paused (callbacks resume)",
    ClaimResult.TOO_EARLY: "the last batch was too short a time ago (CALLBACKS_MIN_INTERVAL)",
    ClaimResult.SATURATED: "a whole batch is claimed and late: the workers do not keep up",
    ClaimResult.LOCK_LOST: "the dispatch lock was lost",
}


@click.command()
@json_option
def flush(as_json: bool) -> None:
    """Claim a batch now; workers send it at its pace."""
    found = parts()
    batch = dispatch_once(found.batcher, found.wakes)
    if batch is None:
        _leave_it(as_json)
        return
    if batch.result is not ClaimResult.CLAIMED:
        raise Failure(f"nothing was claimed: {_WHY_NONE[batch.result]}")
    claimed = len(batch.callbacks)
    if as_json:
        print_json({"claimed": claimed, "ids": [callback.id for callback in batch.callbacks]})
    elif claimed:
        say(f"{many(claimed, 'callback')} claimed")
    else:
        say(f"nothing was claimed: {_why_empty(found)}")


def _leave_it(as_json: bool) -> None:
    """Say that a dispatcher is at it, which claims what this call would have."""
    if as_json:
        print_json({"claimed": 0, "ids": []})
    else:
        say("nothing was claimed here: another dispatcher is claiming a batch right now")


def _why_empty(found: Runtime) -> str:
    look = found.batcher.look()
    if not look.queued:
        return "nothing is queued"
    if look.next_ready_ms is None:
        return f"{many(look.queued, 'callback')} queued, none of them ready"
    soon = age((look.next_ready_ms - look.now_ms) / 1000)
    return f"{many(look.queued, 'callback')} queued, the next is ready in {soon}"


@click.command()
@click.argument("scope", callback=in_scope, required=False, metavar="[DESTINATION]")
@json_option
def pause(scope: Scope | None, as_json: bool) -> None:
    """Stop sending, to all or to one destination.

    https://host is the host with all its lanes, also those to come; https://host#lane is one
    lane, https://host# the host without its lanes. Requests in flight are ended as usual; how
    many there are is said.
    """
    done = steering.pause(parts().batcher, scope)
    if as_json:
        print_json(
            {
                "paused": scope.name if scope else "all",
                "lanes": len(done.lanes),
                "in_flight": done.in_flight,
            }
        )
        return
    what = _named(scope.name, done) if scope else "everything is"
    say(f"{what} paused; {many(done.in_flight, 'request')} still in flight")
    if not done.seen:
        note("nothing waits for it, and nothing was sent to it within a day: is it spelled right?")


def _named(name: str, done: Steered) -> str:
    """Name what was steered, with how many lanes (or paths, on a shared host), and its verb."""
    lanes = sum("#" in lane for lane in done.lanes)
    counts = ((lanes, "lane"), (len(done.lanes) - lanes, "path"))
    more = [many(count, noun) for count, noun in counts if count]
    return f"{' and '.join([name, *more])} {'are' if more else 'is'}"


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
    done, forgiven = Steered(changed=False), False
    if target and path:
        forgiven = found.batcher.forgive(normal_url(target))
    if not path or (scope and "/" in scope.name.partition("://")[2]):  # shared: it is both
        done = steering.resume(found.batcher, scope)
    found.wakes.check(0)
    what = display_url(normal_url(target)) if target and path else scope and scope.name
    changed = done.changed or forgiven
    if as_json:
        print_json({"resumed": what or "all", "lanes": len(done.lanes), "changed": changed})
        return
    if path and changed:
        say(f"{what} is not marked as gone any more")
    elif changed or done.lanes:
        say(f"{_named(scope.name, done) if scope else 'everything is'} resumed")
    else:
        say(_nothing_to_resume(scope, path))
    if path and scope and Books(found.batcher.scripts).destination(scope.name).paused:
        note(f"its destination is paused: callbacks resume {scope.name}")


def _nothing_to_resume(scope: Scope | None, path: str) -> str:
    if scope is None:
        return "it was not paused as a whole; destinations may be (callbacks destinations)"
    if path:
        return f"that URL has no mark that it is gone; its destination is {scope.name}"
    return f"{scope.name} was neither paused nor on hold"


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


@click.command()
@click.option(
    "--expired",
    is_flag=True,
    help="Also end what is too old, though a jump of Redis' clock has put that off.",
)
@json_option
def cleanup(expired: bool, as_json: bool) -> None:
    """Take back callbacks that are past their lease, now."""
    batcher = parts().batcher
    ended = _expire(batcher) if expired else 0
    recovered = dead = cancelled = 0
    while (done := recover_once(batcher, chance=_chance())) != Recovered(0, 0, 0):
        recovered += done.recovered
        dead += done.dead
        cancelled += done.cancelled
    if as_json:
        document = {"recovered": recovered, "dead": dead, "cancelled": cancelled}
        print_json(document | ({"expired": ended} if expired else {}))
        return
    others = f", {dead:,} dead, {cancelled:,} cancelled" if dead or cancelled else ""
    others += f", {ended:,} expired" if expired else ""
    say(f"{many(recovered, 'callback')} recovered{others}")


def _expire(batcher: Batcher) -> int:
    batcher.unhold()
    total = 0
    while some := expire_once(batcher):
        total += some
    return total


def _chance() -> float:
    return random.random()  # noqa: S311 - spreads load, guards nothing
