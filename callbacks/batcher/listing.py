"""Lists callbacks page by page: each page goes on where another ended, whatever changed meanwhile.

A place in a list is a time and an id, never a rank: so callbacks that are added or removed shift
no page, and one that stays where it is is neither missed nor returned twice.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from typing import Any, Final, NamedTuple

from callbacks.batcher.inspector import Inspector, Status
from callbacks.batcher.paging import pages
from callbacks.batcher.scripts import Scripts
from callbacks.model import Reason, State
from callbacks.request.urls import Scope

#: Callbacks read at a time.
PAGE: Final = 500
#: States that callbacks do not leave by themselves: their newest come first.
FINAL: Final = frozenset({State.SENT, State.DEAD, State.CANCELLED})
#: Where the callbacks of a state are. Queued ones are in many lanes, and in `expiry` together.
_STRUCTURES: Final = {
    State.QUEUED: "expiry",
    State.PROCESSING: "processing",
    State.SENT: "sent",
    State.CANCELLED: "sent",
    State.DEAD: "dead",
}


class Place(NamedTuple):
    """Where a callback is in its list: its score in `lane`, or in the structure of its state."""

    score: float
    id: str
    lane: str = ""


class Bounds(NamedTuple):
    """Which part of a sorted set is walked through, and in which direction."""

    low: float = float("-inf")
    high: float = float("inf")
    newest_first: bool = False


def walk(
    inspector: Inspector,
    name: str,
    bounds: Bounds,
    *,
    after: Place | None = None,
    size: int = PAGE,
    lane: str = "",
) -> Iterator[list[Place]]:
    """Walk through a structure page by page, in all shards at once; goes on after a place."""
    scripts = inspector.scripts
    shards = (scripts.of(lane),) if lane else scripts.shards
    walks = [_walk(shard, name, bounds, after=after, size=size, lane=lane) for shard in shards]
    if len(walks) == 1:
        yield from walks[0]
        return
    places = map(chain.from_iterable, walks)
    yield from pages(heapq.merge(*places, key=itemgetter(0, 1), reverse=bounds.newest_first), size)


def _walk(
    shard: Scripts, name: str, bounds: Bounds, *, after: Place | None, size: int, lane: str
) -> Iterator[list[Place]]:
    """Walk through a sorted set. It continues from the last score it saw, not from a rank."""
    last, skip = after, 0
    key = shard.keys.of(name, lane)
    while True:
        rows = _read(shard, key, bounds, last=last, skip=skip, size=size)
        fresh = [
            Place(score, id, lane)
            for id, score in rows
            if last is None or _is_behind(score, id, last, bounds)
        ]
        if fresh:
            yield fresh
            last, skip = fresh[-1], 0
        else:
            skip += len(rows)  # more callbacks than a page have this very score
        if len(rows) < size:
            return


def _read(
    shard: Scripts, key: str, bounds: Bounds, *, last: Place | None, skip: int, size: int
) -> list[tuple[str, float]]:
    low, high, newest_first = bounds
    if newest_first:
        start, stop = (last.score if last else high), low
    else:
        start, stop = (last.score if last else low), high
    rows: Any = shard.client.zrange(
        key,
        start,
        stop,
        desc=newest_first,
        byscore=True,
        offset=skip,
        num=size,
        withscores=True,
    )
    return [(id.decode(), score) for id, score in rows]


def _is_behind(score: float, id: str, last: Place, bounds: Bounds) -> bool:
    here, there = (score, id), (last.score, last.id)
    return here < there if bounds.newest_first else here > there


@dataclass(frozen=True, slots=True)
class Filter:
    """Which callbacks are listed.

    `since_ms` and `until_ms`, the earliest end and the one before which it was, are for final
    states. `statuses`: the least and the greatest HTTP status of the last attempt.
    """

    state: State
    scope: Scope | None = None
    reason: Reason | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    statuses: tuple[int, int] | None = None

    def fits(self, status: Status) -> bool:
        """Whether it is one of them."""
        return (
            status.state is self.state
            and (self.scope is None or self.scope.covers(status.destination))
            and self.reason in (None, status.reason)
            and (self.since_ms is None or (status.ended_at or 0) * 1000 >= self.since_ms)
            and (self.until_ms is None or (status.ended_at or 0) * 1000 < self.until_ms)
            and (self.statuses is None or self._has_status(status.status))
        )

    def _has_status(self, status: int | None) -> bool:
        low, high = self.statuses or (0, 0)
        return status is not None and low <= status <= high

    @property
    def takes_all(self) -> bool:
        """Whether all callbacks in its structure fit, or nearly all."""
        some = self.scope or self.reason or self.statuses
        return not some and self.state is not State.CANCELLED


def statuses(inspector: Inspector, wanted: Filter) -> Iterator[Status]:
    """Iterate over callbacks, in the order of their list."""
    for _, status in found(inspector, wanted, places(inspector, wanted)):
        if status is not None:
            yield status


def places(
    inspector: Inspector, wanted: Filter, *, after: Place | None = None, size: int = PAGE
) -> Iterator[list[Place]]:
    """Walk through what may fit, in the order of its list.

    Final states: the newest first; `processing`: by the next step; `queued`: by the end of life,
    and if they are those of a host, lane by lane as they are due.
    """
    state, scope = wanted.state, wanted.scope
    if state is State.QUEUED and scope:
        yield from _in_lanes(inspector, scope, after=after, size=size)
        return
    low = float("-inf") if wanted.since_ms is None else wanted.since_ms
    high = float("inf") if wanted.until_ms is None else wanted.until_ms
    bounds = Bounds(low, high, newest_first=state in FINAL)
    yield from walk(inspector, _STRUCTURES[state], bounds, after=after, size=size)


def _in_lanes(
    inspector: Inspector, scope: Scope, *, after: Place | None, size: int
) -> Iterator[list[Place]]:
    names = sorted({scope.name, *inspector.lanes(scope)}) if scope.lanes else [scope.name]
    for name in names:
        if after is not None and name < after.lane:
            continue
        reached = after if after is not None and name == after.lane else None
        yield from walk(inspector, "lane:", Bounds(), after=reached, size=size, lane=name)


def found(
    inspector: Inspector, wanted: Filter, walk: Iterator[list[Place]], most: int | None = None
) -> Iterator[tuple[Place, Status | None]]:
    """Read the callbacks at some places; None for one that does not fit. Reads about `most`."""
    read = 0
    for page in walk:
        known = {status.id: status for status in inspector.find_many([p.id for p in page])}
        for place in page:
            status = known.get(place.id)
            yield place, status if status and wanted.fits(status) else None
        read += len(page)
        if most is not None and read >= most:
            return
