"""What is told of one callback besides its status: what comes next, and what to do."""

from __future__ import annotations

from typing import Final

from callbacks.batcher.audit import REQUEST_GONE
from callbacks.batcher.inspector import Inspector, Status, overview
from callbacks.batcher.journal import told
from callbacks.batcher.shards import Shards
from callbacks.batcher.store import Batcher
from callbacks.model import Request, State
from callbacks.monitor.health import START_WORKERS, no_worker
from callbacks.monitor.trouble import condition
from callbacks.policy.outcome import hint
from callbacks.request.freeze import unpack
from callbacks.text import when


def request_of(batcher: Batcher | Shards, id: str) -> Request | None:
    """The frozen request, if it is still kept."""
    packed = Inspector(batcher.scripts).request(id)
    return None if packed is None else unpack(packed)


def header_names(request: Request) -> tuple[str, ...]:
    """The names of its extra headers; their values are not shown."""
    return tuple(name for name, _ in request.headers)


_PHASES: Final = {"retry": "waiting to retry", "sending": "in flight"}


def state_of(status: Status) -> str:
    """The state as shown; within `processing`, also what the callback is waiting for."""
    if status.state is not State.PROCESSING:
        return status.state
    return f"{status.state} ({_PHASES.get(status.phase, status.phase)})"


def hint_for(status: Status, *, authorized: bool | None = None) -> str | None:
    """What to do about a callback that failed; None if it has no reason.

    `authorized`: whether its request has an `Authorization` header, None if it was not read.
    """
    if status.detail == REQUEST_GONE:
        return "its request was deleted from Redis; find out what did that, and enqueue it again"
    if not status.reason:
        return None
    return hint(status.reason, status.status, authorized=authorized)


def next_step(batcher: Batcher | Shards, status: Status, now_s: float) -> str:
    """What comes next, in one sentence."""
    return _held(batcher, status, now_s) or _next(status, now_s)


def _next(status: Status, now_s: float) -> str:
    at = status.next_attempt_at
    moment = "" if at is None else when(at, now_s)
    late = at is not None and at <= now_s
    sentences = {
        "queued": "waits for its batch",
        "claimed": f"claimed; waits for a worker since {moment}" if late else f"sent at {moment}",
        "retry": f"retry due {moment}",
        "sending": "a request is in flight",
        "sent": "nothing: it was delivered",
        "cancelled": "nothing: it was cancelled",
        "dead": f"nothing, unless replayed: callbacks dead replay --id {status.id}",
    }
    if status.state is State.QUEUED and not late and at is not None:
        return f"due {moment}, then waits for its batch"
    if status.state is State.DEAD and status.detail == REQUEST_GONE:
        return "nothing: it cannot be replayed; enqueue it again with a new id"
    return sentences.get(status.phase, "nothing")


def _held(batcher: Batcher | Shards, status: Status, now_s: float) -> str | None:
    """What keeps a queued callback from being claimed with the next batch."""
    if status.state is not State.QUEUED:
        return None
    books = overview(batcher.scripts)
    if books.paused_since_ms is not None:
        by = books.paused_by
        words = f" {told(by)}" if by and told(by) else ""
        return f"everything is paused{words}; callbacks resume"
    destination = Inspector(batcher.scripts).destination(status.destination)
    words = condition(destination, now_s * 1000)
    if destination.paused:
        return f"its destination is {words}; callbacks resume {status.destination}"
    if destination.breaker == "open" or destination.hold_why == "secret":
        return f"its destination: {words}"
    absent = no_worker(books, batcher.settings)
    return f"waits for a worker: {absent}; {START_WORKERS}" if absent else None
