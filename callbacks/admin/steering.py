"""Steering: cancel, pause, resume, flush. The journal says who did it, and why."""

from __future__ import annotations

from typing import Final

from callbacks.admin.filters import ALL, journal_entry, to_scope
from callbacks.admin.values import Cancellation, Flush, Pause, Resumption
from callbacks.batcher import scopes
from callbacks.batcher.errors import as_documented, which_shards
from callbacks.batcher.inspector import Inspector, find
from callbacks.batcher.routes import raise_for
from callbacks.batcher.scopes import ScopeResult
from callbacks.model import Cancelled, ClaimResult, State
from callbacks.request.freeze import check_id
from callbacks.request.urls import display_url, lanes_and_paths, normal_url, path_of
from callbacks.runtime import Runtime, runtime
from callbacks.text import age, many
from callbacks.worker.duties import dispatch_all

_WHY_NONE: Final = {
    ClaimResult.PAUSED: "everything is paused (callbacks resume)",
    ClaimResult.TOO_EARLY: "the last batch was claimed less than CALLBACKS_MIN_INTERVAL ago",
    ClaimResult.BUSY: "all workers are busy, and enough is claimed for them",
    ClaimResult.SATURATED: "the workers do not keep up; a whole batch is claimed and overdue",
    ClaimResult.PACED: "all slots of the next seconds have been given out",
    ClaimResult.LOCK_LOST: "another dispatcher took over the lock",
}


@as_documented()
def cancel(id: str, *, why: str = "", who: str | None = None) -> Cancellation:
    """Keep a callback from being sent, or from being sent again.

    Nothing happens to one that is sent or dead, or whose id is unknown; see the result's `done`.
    `why` and `who` (default: user and machine) are for the journal.

    Raises `InvalidCallback` for an invalid id.
    """
    batcher = runtime().batcher
    entry = journal_entry("cancel", check_id(id), who=who, why=why)
    match batcher.cancel(id, entry=entry):
        case Cancelled.CANCELLED:
            return Cancellation(id, cancelled=True, in_flight=False, state=State.CANCELLED)
        case Cancelled.IN_FLIGHT:
            return Cancellation(id, cancelled=False, in_flight=True, state=State.PROCESSING)
        case Cancelled.UNKNOWN:
            return Cancellation(id, cancelled=False, in_flight=False, state=None)
    status = find(batcher.scripts, id)
    state = status.state if status else None
    return Cancellation(id, cancelled=False, in_flight=False, state=state)


@as_documented()
def pause(destination: str | None = None, *, why: str = "", who: str | None = None) -> Pause:
    """Stop sending, to every destination or to one.

    `https://host` is the host with all its lanes, including lanes first used later;
    `https://host#lane` is one lane, `https://host#` the host without its lanes. A URL with a path
    means its destination. Requests in flight are completed. `why` and `who` are for the journal.

    Raises `InvalidCallback` for a bad destination.
    """
    parts = runtime()
    scope = to_scope(parts, destination)
    name = scope.name if scope else ALL
    entry = journal_entry("pause", name, who=who, why=why)
    done = scopes.pause(parts.batcher, scope, entry=entry)
    lanes, paths = lanes_and_paths(done.lanes)
    return Pause(name, lanes, paths, in_flight=done.in_flight, known=done.seen)


@as_documented()
def resume(target: str | None = None, *, why: str = "", who: str | None = None) -> Resumption:
    """Start sending again, to every destination or to one.

    Resuming a destination also ends its hold, closes its breaker and resets its interval; a host
    is resumed with all its lanes. Resuming a URL (with a path) clears its 410 mark and does
    nothing else, unless its path is a destination of its own. `why` and `who` are for the journal.

    Raises `InvalidCallback` for a bad target.
    """
    parts = runtime()
    scope = to_scope(parts, target)
    path = path_of(target or "")
    done, forgiven = ScopeResult(changed=False), False
    name = display_url(normal_url(target)) if target and path else scope.name if scope else ALL
    entry = journal_entry("resume", name, who=who, why=why)
    if target and path:
        forgiven = parts.batcher.forgive(normal_url(target), entry=entry)
        entry = ""  # once for both
    if not path or (scope and path_of(scope.name)):  # shared: it is both
        done = scopes.resume(parts.batcher, scope, entry=entry)
    parts.messages.check(0)
    lanes, paths = lanes_and_paths(done.lanes)
    return Resumption(
        target=name,
        destination=scope.name if scope else ALL,
        lanes=lanes,
        paths=paths,
        changed=done.changed or forgiven,
        still_paused=bool(path and scope and _is_paused(parts, scope.name)),
    )


def _is_paused(parts: Runtime, name: str) -> bool:
    return Inspector(parts.batcher.scripts).destination(name).paused


@as_documented()
def flush() -> Flush:
    """Claim a batch now. Workers send its callbacks at the usual pace."""
    parts = runtime()
    away = parts.batcher.away()
    shards = parts.batcher.shards
    reached = [one for n, one in enumerate(shards) if n not in away]
    batch = dispatch_all(reached, parts.messages)
    if away and not (batch and batch.callbacks):
        raise_for([away.get(n) for n in range(len(shards))])
    if batch is None:
        return Flush(why="another dispatcher is claiming a batch right now")
    if batch.result is not ClaimResult.CLAIMED:
        return Flush(why=_WHY_NONE[batch.result], refused=True)
    ids = tuple(callback.id for callback in batch.callbacks)
    if away:
        return Flush(ids, away=which_shards(away, len(shards)))
    return Flush(ids) if ids else Flush(why=_why_empty(parts))


def _why_empty(parts: Runtime) -> str:
    look = parts.batcher.look()
    if not look.queued:
        return "nothing is queued"
    if look.next_ready_ms is None:
        why = "all are paused or on hold (callbacks destinations)"
        return f"{many(look.queued, 'callback')} queued, none ready: {why}"
    soon = age((look.next_ready_ms - look.now_ms) / 1000)
    return f"{many(look.queued, 'callback')} queued, the next is ready in {soon}"
