"""`callbacks flush`: claim a batch now."""

from __future__ import annotations

from typing import Final

import click

from callbacks.cli.command import Failure, json_option, parts, print_json, say
from callbacks.model import ClaimResult
from callbacks.runtime import Runtime
from callbacks.text import age, many
from callbacks.worker.duties import dispatch_once

_WHY_NONE: Final = {
    ClaimResult.PAUSED: "everything is paused (callbacks resume)",
    ClaimResult.TOO_EARLY: "the last batch was claimed less than CALLBACKS_MIN_INTERVAL ago",
    ClaimResult.BUSY: "all workers are busy, and enough is claimed for them",
    ClaimResult.SATURATED: "the workers do not keep up; a whole batch is claimed and overdue",
    ClaimResult.LOCK_LOST: "another dispatcher took over the lock",
}


@click.command()
@json_option
def flush(as_json: bool) -> None:
    """Claim a batch now. Workers send its callbacks at the usual pace."""
    found = parts()
    batch = dispatch_once(found.batcher, found.messages)
    if batch is None:
        _leave_it(as_json)
        return
    if batch.result is not ClaimResult.CLAIMED:
        raise Failure(f"nothing was claimed: {_WHY_NONE[batch.result]}")
    claimed = len(batch.callbacks)
    if as_json:
        print_json({"claimed": claimed, "ids": [callback.id for callback in batch.callbacks]})
    elif claimed:
        say(f"{many(claimed, 'callback')} claimed; workers send each in its slot")
    else:
        say(f"nothing was claimed: {_why_empty(found)}")


def _leave_it(as_json: bool) -> None:
    """Report that another dispatcher is claiming the batch."""
    if as_json:
        print_json({"claimed": 0, "ids": []})
    else:
        say("nothing was claimed: another dispatcher is claiming a batch right now")


def _why_empty(found: Runtime) -> str:
    look = found.batcher.look()
    if not look.queued:
        return "nothing is queued"
    if look.next_ready_ms is None:
        why = "all are paused or on hold (callbacks destinations)"
        return f"{many(look.queued, 'callback')} queued, none ready: {why}"
    soon = age((look.next_ready_ms - look.now_ms) / 1000)
    return f"{many(look.queued, 'callback')} queued, the next is ready in {soon}"
