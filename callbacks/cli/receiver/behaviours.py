"""How a receiver answers: the same always, slowly, not at all, at a limited rate."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from callbacks.cli.receiver.exchange import Behaviour, Hit, Response


def status(code: int, *, retry_after: str | None = None) -> Behaviour:
    """Answer everything with one status."""
    headers = () if retry_after is None else (("retry-after", retry_after),)
    reply = Response(code, headers)
    return lambda _hit: reply


def slow(seconds: float, code: int = 200) -> Behaviour:
    """Answer everything after a while."""
    reply = Response(code, delay_s=seconds)
    return lambda _hit: reply


def drop() -> Behaviour:
    """Close the connection instead of answering."""
    reply = Response(drop=True)
    return lambda _hit: reply


def fail_first(times: int, code: int) -> Behaviour:
    """Answer the first requests of each `webhook-id` with a failure, the later ones with 200."""
    seen: dict[str, int] = {}

    def behave(hit: Hit) -> Response:
        seen[hit.id] = seen.get(hit.id, 0) + 1
        return Response(code if seen[hit.id] <= times else 200)

    return behave


def limited(per_s: float, *, clock: Callable[[], float] = time.monotonic) -> Behaviour:
    """Answer 429 with `Retry-After: 1` above a rate; allows bursts of one second's requests."""
    burst = max(1.0, per_s)
    room, last = burst, clock()

    def behave(_hit: Hit) -> Response:
        nonlocal room, last
        now = clock()
        room, last = min(burst, room + (now - last) * per_s), now
        if room < 1:
            return Response(429, (("retry-after", "1"),))
        room -= 1
        return Response(200)

    return behave


def by_path(behaviours: Mapping[str, Behaviour], default: Behaviour | None = None) -> Behaviour:
    """Answer by the path's first segment: `{"flaky": fail_first(1, 503)}` for `/flaky/7`."""
    otherwise = default or status(200)

    def behave(hit: Hit) -> Response:
        segment = hit.path.partition("?")[0].split("/")[1:2]
        return behaviours.get("".join(segment), otherwise)(hit)

    return behave
