"""`callbacks flush`, `pause`, `resume`, `cancel` and `cleanup`: move what waits."""

from __future__ import annotations

import random
from typing import Final

import click

from callbacks.batcher import Batcher
from callbacks.books import Books, find
from callbacks.cli.command import Failure, in_normal_form, json_option, note, parts, print_json, say
from callbacks.model import Cancelled, ClaimResult, Recovered
from callbacks.runtime import Runtime
from callbacks.text import age, many
from callbacks.urls import display_url, normal_url
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
        raise Failure("nothing was claimed: another dispatcher holds the lock")
    if batch.result is not ClaimResult.CLAIMED:
        raise Failure(f"nothing was claimed: {_WHY_NONE[batch.result]}")
    claimed = len(batch.callbacks)
    if as_json:
        print_json({"claimed": claimed, "ids": [callback.id for callback in batch.callbacks]})
    elif claimed:
        say(f"{many(claimed, 'callback')} claimed")
    else:
        say(f"nothing was claimed: {_why_empty(found)}")


def _why_empty(found: Runtime) -> str:
    look = found.batcher.look()
    if not look.queued:
        return "nothing is queued"
    if look.next_ready_ms is None:
        return f"{many(look.queued, 'callback')} queued, none of them ready"
    soon = age((look.next_ready_ms - look.now_ms) / 1000)
    return f"{many(look.queued, 'callback')} queued, the next is ready in {soon}"


@click.command()
@click.argument("destination", callback=in_normal_form, required=False)
@json_option
def pause(destination: str | None, as_json: bool) -> None:
    """Stop sending, to all or to one destination.

    Requests in flight are ended as usual; how many there are is said.
    """
    found = parts()
    seen = destination is None or Books(found.batcher.scripts).knows(destination)
    in_flight = found.batcher.pause(destination)
    if as_json:
        print_json({"paused": destination or "all", "in_flight": in_flight})
        return
    flying = f"{many(in_flight, 'request')} still in flight"
    say(f"{destination or 'everything'} is paused; {flying}")
    if not seen:
        note("nothing waits for it, and nothing was sent to it within a day: is it spelled right?")


@click.command()
@click.argument("target", required=False, metavar="[DESTINATION|URL]")
@json_option
@click.pass_context
def resume(context: click.Context, target: str | None, as_json: bool) -> None:
    """Start sending again, to all or to one destination.

    Resuming a destination also ends its wait, closes its breaker and resets its interval.
    Resuming a URL (with a path) lifts the mark that it is gone, and nothing else.
    """
    found = parts()
    destination = in_normal_form(context, None, target)
    changed, what = False, destination or "everything"
    done = "is resumed"
    path = (target or "").partition("://")[2].partition("#")[0].partition("/")[2]
    if target and path:
        what, done = display_url(normal_url(target)), "is not marked as gone any more"
        changed = found.batcher.forgive(normal_url(target))
    if not path or "/" in (destination or "").partition("://")[2]:  # shared: URL and destination
        changed = found.batcher.resume(destination) or changed
    found.wakes.check(0)
    if as_json:
        print_json({"resumed": what if target else "all", "changed": changed})
    else:
        say(f"{what} {done}" if changed else _nothing_to_resume(destination, path))
        if path and destination and Books(found.batcher.scripts).destination(destination).paused:
            note(f"its destination is paused: callbacks resume {destination}")


def _nothing_to_resume(destination: str | None, path: str) -> str:
    if destination is None:
        return "it was not paused as a whole; destinations may be (callbacks destinations)"
    if path:
        return f"that URL has no mark that it is gone; its destination is {destination}"
    return f"{destination} was neither paused nor on hold"


@click.command()
@click.argument("id")
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
