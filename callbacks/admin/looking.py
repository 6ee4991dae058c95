"""Looking: nothing here changes anything."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from types import MappingProxyType
from typing import Any, Final

from callbacks.admin import values
from callbacks.admin.filters import (
    check_limit,
    read_cursor,
    to_cursor,
    to_ids,
    to_reason,
    to_scope,
    to_since_ms,
    to_state,
    to_statuses,
    to_until_ms,
)
from callbacks.admin.values import (
    DeliveryDelay,
    LastHour,
    Page,
    Story,
    SystemStatus,
    TroubledDestination,
    WorkerProcess,
)
from callbacks.batcher import inspector as inspecting
from callbacks.batcher.errors import as_documented
from callbacks.batcher.inspector import Inspector, Status, Worker, find
from callbacks.batcher.journal import Act, read_journal
from callbacks.batcher.listing import FINAL, PAGE, Filter, Place, found, places, statuses
from callbacks.batcher.paging import pages
from callbacks.model import InvalidCallback, Reason, Request, State
from callbacks.monitor.history import Change, Series, read_history
from callbacks.monitor.snapshot import HOLDS, Snapshot, take
from callbacks.monitor.story import header_names, hint_for, next_step, request_of
from callbacks.monitor.trouble import WORST, condition, limit_of, trouble_of, worst
from callbacks.request.freeze import check_id
from callbacks.request.urls import Scope
from callbacks.runtime import runtime
from callbacks.when import Moment

#: Records read for one page, at most about: half a second.
MOST_READ: Final = 5_000
#: What destinations can be sorted by; the largest first, except names.
SORTS: Final[Mapping[str, Callable[[inspecting.Destination], Any]]] = MappingProxyType(
    {
        "name": lambda one: one.name,
        "waiting": lambda one: -one.waiting,
        "oldest": lambda one: (one.oldest_due_ms is None, one.oldest_due_ms),
        "in-flight": lambda one: -one.in_flight,
        "rate": lambda one: -one.per_minute,
        "failures": lambda one: -sum(one.failures.values()),
        "latency": lambda one: -(one.latency_ms or 0),
    }
)


@as_documented()
def status() -> SystemStatus:
    """Read sizes, totals, rates and health."""
    batcher = runtime().batcher
    return system_status(take(batcher), read_history(batcher.scripts).hour)


@as_documented()
def list_callbacks(
    state: State | str,
    *,
    ids: Sequence[str] = (),
    destination: str | None = None,
    reason: Reason | str | None = None,
    status: int | str | None = None,
    since: Moment | None = None,
    until: Moment | None = None,
    limit: int = 50,
    cursor: str | None = None,
    most_read: int | None = None,
) -> Page[Status]:
    """List callbacks in a state, page by page: `limit` of them, and the `cursor` of the next page.

    Sent, dead and cancelled ones come the newest first; queued ones in the order in which they
    expire (that of their arrival, unless `expires_in` was given), and those of one `destination`
    in the order in which they are due; processing ones by what comes next.

    `destination` is one as it is shown, or any URL that belongs to it: `https://host` includes
    all its lanes, `https://host#lane` is one lane, `https://host#` the host without its lanes.
    `reason` and `status` are those of the last failure; `status` is a number or a class (`"4xx"`).
    `since`, `until`: only those that ended since then and before, a text (`"90"` seconds or `"2h"`
    ago, or an RFC 3339 time), a `timedelta` ago, or an aware `datetime`. `ids`: only these, in this
    order, in one page. About `most_read` records are read for a page at most.

    Raises `InvalidCallback` for bad input, and the Redis errors of `get_status`.
    """
    check_limit(limit)
    wanted = _filter(state, destination, reason, status=status, since=since, until=until)
    given = to_ids(ids)
    inspector = Inspector(runtime().batcher.scripts)
    if given:
        known = (one for step in pages(given, PAGE) for one in inspector.find_many(step))
        return Page(tuple(islice(filter(wanted.fits, known), limit)))
    kind = f"list {wanted.state}"
    place = read_cursor(cursor, kind, float, str, str)
    size = min(PAGE, limit + 1) if wanted.takes_all else PAGE
    walk = places(inspector, wanted, after=Place(*place) if place else None, size=size)
    return _page(inspector, wanted, walk, limit, kind=kind, most_read=most_read or MOST_READ)


def iterate(
    state: State | str,
    *,
    destination: str | None = None,
    reason: Reason | str | None = None,
    status: int | str | None = None,
    since: Moment | None = None,
    until: Moment | None = None,
) -> Iterator[Status]:
    """Iterate over all callbacks in a state, in the order of `list`; reads page by page.

    What comes into the state or leaves it meanwhile may be missing. Raises as `list`.
    """
    wanted = _filter(state, destination, reason, status=status, since=since, until=until)
    with as_documented():
        yield from statuses(Inspector(runtime().batcher.scripts), wanted)


def _filter(
    state: State | str,
    destination: str | None,
    reason: Reason | str | None,
    *,
    status: int | str | None,
    since: Moment | None,
    until: Moment | None,
) -> Filter:
    found_state = to_state(state)
    for name, given in (("since", since), ("until", until)):
        if given is not None and found_state not in FINAL:
            problem = "is for callbacks that have ended; expected none in this state"
            raise InvalidCallback(name, problem)
    return Filter(
        found_state,
        to_scope(runtime(), destination),
        to_reason(reason),
        to_since_ms(since),
        to_until_ms(until),
        to_statuses(status),
    )


def _page(
    inspector: Inspector,
    wanted: Filter,
    walk: Iterator[list[Place]],
    limit: int,
    *,
    kind: str,
    most_read: int,
) -> Page[Status]:
    items: list[Status] = []
    last: Place | None = None  # of the items
    read: Place | None = None
    for read, one in found(inspector, wanted, walk, most_read):
        if one is None:
            continue
        if len(items) == limit and last is not None:  # so there is one more
            return Page(tuple(items), to_cursor(kind, *last))
        items.append(one)
        last = read
    at_the_end = read is None or next(walk, None) is None
    return Page(tuple(items), None if at_the_end or read is None else to_cursor(kind, *read))


def show(id: str) -> Story | None:
    """Read one callback, its attempts and what comes next; None if its id is unknown.

    Raises `InvalidCallback` for an invalid id.
    """
    found = read_story(id)
    return found[0] if found else None


@as_documented()
def read_story(id: str) -> tuple[Story, Request | None] | None:
    """Read what `show` returns, and the request, if it is still kept; raises as that."""
    parts = runtime()
    one = find(parts.batcher.scripts, check_id(id))
    if one is None:
        return None
    request = request_of(parts.batcher, id)
    names = None if request is None else header_names(request)
    authorized = None if names is None else "authorization" in map(str.lower, names)
    story = Story(
        status=one,
        next=next_step(parts.batcher, one, time.time()),
        hint=hint_for(one, authorized=authorized),
        header_names=names,
        body_bytes=None if request is None else len(request.body),
    )
    return story, request


@as_documented()
def destinations(
    *,
    destination: str | None = None,
    trouble: bool = False,
    sort: str | None = None,
    limit: int = 100,
    cursor: str | None = None,
) -> Page[values.Destination]:
    """List the destinations that wait or were used within a day, page by page.

    Those in trouble come first, the others by name. `trouble`: only those in trouble, the worst
    first. `sort`: `name`, or the largest first by `waiting`, `oldest`, `in-flight`, `rate`,
    `failures` or `latency`, which reads all of them. `destination`: only this one and its lanes,
    as in `list`.

    Raises `InvalidCallback` for bad input.
    """
    check_limit(limit)
    kind = f"destinations {int(trouble)} {sort or ''}"
    place = read_cursor(cursor, kind, str, int) or ["", 0]
    shown = _ordered(*place, destination=destination, trouble=trouble, sort=sort)
    rows = list(islice(shown, limit + 1))
    items = tuple(one for _, one in rows[:limit])
    return Page(items, to_cursor(kind, *rows[limit - 1][0]) if len(rows) > limit else None)


@as_documented()
def destination(name: str) -> values.Destination | None:
    """Read one destination, by its name as it is shown; None if it was not used within a day.

    Without its lanes: they are destinations of their own.
    """
    parts = runtime()
    inspector = Inspector(parts.batcher.scripts)
    one = inspector.destination(name)
    if not (one.waiting or one.in_flight or one.paused or inspector.knows(name)):
        return None
    return _destination(one, parts.settings.destination_concurrency, time.time() * 1000)


def iterate_destinations(
    *, destination: str | None = None, trouble: bool = False, sort: str | None = None
) -> Iterator[values.Destination]:
    """Iterate over all destinations, in the order of `destinations`. Raises as that."""
    with as_documented():
        for _, one in _ordered("", 0, destination=destination, trouble=trouble, sort=sort):
            yield one


def _ordered(
    name: str, count: int, *, destination: str | None, trouble: bool, sort: str | None
) -> Iterator[tuple[_Reached, values.Destination]]:
    """The destinations after a place, each with its own."""
    parts, now_ms = runtime(), time.time() * 1000
    if sort is not None and sort not in SORTS:
        raise InvalidCallback("sort", f"is {sort[:50]!r}; expected one of {', '.join(SORTS)}")
    order = _Order(Inspector(parts.batcher.scripts), now_ms, to_scope(parts, destination))
    concurrency = parts.settings.destination_concurrency
    for place, one in order.after(name, count, trouble=trouble, sort=sort):
        yield place, _destination(one, concurrency, now_ms)


#: A place among destinations: the name up to which they were listed, or else how many.
_Reached = tuple[str, int]


class _Order:
    """The destinations in their order, each with its place."""

    def __init__(self, inspector: Inspector, now_ms: float, scope: Scope | None) -> None:
        self._inspector, self._now_ms, self._scope = inspector, now_ms, scope

    def after(
        self, name: str, count: int, *, trouble: bool, sort: str | None
    ) -> Iterator[tuple[_Reached, inspecting.Destination]]:
        """Go on after a place; without `sort`, those in trouble come first."""
        if trouble or sort:
            those = self._troubled() if trouble else self._all("")
            return self._counted(sorted(those, key=SORTS[sort]) if sort else those, count)
        troubled = list(self._troubled())
        names = {one.name for one in troubled}
        others = (((one.name, 0), one) for one in self._all(name) if one.name not in names)
        return others if name else chain(self._counted(troubled, count), others)

    def _counted(
        self, those: Iterable[inspecting.Destination], skip: int
    ) -> Iterator[tuple[_Reached, inspecting.Destination]]:
        rows = ((("", n), one) for n, one in enumerate(those, start=1))
        return islice(rows, skip, None)

    def _troubled(self) -> list[inspecting.Destination]:
        known = {one.name: one for one in self._inspector.troubled() if self._covers(one.name)}
        return [known[one.destination] for one in worst(known.values(), self._now_ms)]

    def _all(self, after: str) -> Iterator[inspecting.Destination]:
        return self._inspector.destinations(covers=self._covers, after=after)

    def _covers(self, name: str) -> bool:
        return self._scope is None or self._scope.covers(name)


def _destination(
    one: inspecting.Destination, concurrency: int, now_ms: float
) -> values.Destination:
    limit, why = limit_of(one, concurrency)
    trouble = trouble_of(one, now_ms)
    return values.Destination(
        name=one.name,
        condition=condition(one, now_ms),
        waiting=one.waiting,
        in_flight=one.in_flight,
        limit=limit,
        limit_why=why,
        paused=one.paused,
        paused_by=one.paused_by,
        breaker=one.breaker,
        faults=one.faults,
        held_until=_seconds(one.hold_until_ms),
        hold_why=one.hold_why,
        per_minute=one.per_minute,
        interval=_seconds(one.interval_ms),
        interval_why=one.interval_why,
        latency=_seconds(one.latency_ms),
        next_claim_at=_seconds(one.next_claim_ms),
        oldest_due_at=_seconds(one.oldest_due_ms),
        last=one.last,
        last_status=one.last_status,
        proven=one.proven,
        refuses=one.refuses,
        refused=one.refused,
        limited_at=_seconds(one.limited_at_ms),
        failures=one.failures,
        trouble=trouble.reason if trouble else None,
        todo=trouble.todo if trouble else None,
    )


@as_documented()
def log(*, limit: int = 50, cursor: str | None = None) -> Page[Act]:
    """List what people did, the newest first, page by page; the last 1,000 acts are kept."""
    check_limit(limit)
    acts = read_journal(runtime().batcher.scripts)
    place = read_cursor(cursor, "log", float, int)
    if place is not None:
        at, same = place
        older = [act for act in acts if act.at < at]
        acts = [act for act in acts if act.at == at][same:] + older
    shown = acts[:limit]
    if len(acts) <= limit:
        return Page(tuple(shown))
    at = shown[-1].at
    same = sum(act.at == at for act in shown) + (place[1] if place and place[0] == at else 0)
    return Page(tuple(shown), to_cursor("log", at, same))


def system_status(shown: Snapshot, hour: Series | None = None) -> SystemStatus:
    """A snapshot, and what happened in the last hour, in public words and units."""
    o, memory = shown.overview, shown.memory
    upcoming, last = o.next_batch_ms, o.last_batch_ms
    health = shown.health
    return SystemStatus(
        at=o.now_ms / 1000,
        health=health.word,
        health_reason=health.reason,
        health_todo=health.todo,
        health_runbook=health.runbook,
        queued=o.queued,
        ready=shown.survey.ready,
        held=shown.survey.held,
        processing=o.processing,
        in_flight=o.in_flight,
        dead=o.dead,
        dead_last_hour=o.dead_last_hour,
        sent_records=o.sent_records,
        paused=o.paused_since_ms is not None,
        paused_since=_seconds(o.paused_since_ms),
        paused_by=o.paused_by.who if o.paused_by else None,
        paused_reason=o.paused_by.reason if o.paused_by else None,
        oldest_queued_age=shown.oldest_s,
        oldest_ready_age=shown.oldest_ready_s,
        oldest_held_age=shown.oldest_held_s,
        destinations_held={why: shown.survey.holds.get(why, 0) for why in HOLDS},
        destinations_waiting=o.destinations_waiting,
        send_interval=shown.send_interval_s,
        send_interval_reason=shown.send_interval_why,
        last_batch_age=None if last is None else (o.now_ms - last) / 1000,
        next_batch_in=None if upcoming is None else max(0, upcoming - o.now_ms) / 1000,
        lock=o.lock or None,
        data_since=_seconds(o.data_since_ms),
        data_lost_at=_seconds(o.data_lost_ms),
        expiry_held_until=_seconds(o.held_until_ms) if o.held else None,
        scheduler_seen_at=_seconds(o.scheduled_ms),
        workers=tuple(map(_worker, shown.workers)),
        producers=shown.producers,
        redis_memory=memory.used if memory else None,
        redis_memory_limit=memory.limit if memory else None,
        in_trouble=len(shown.trouble),
        trouble=tuple(
            TroubledDestination(one.destination, one.reason, one.todo)
            for one in shown.trouble[:WORST]
        ),
        balance=o.balance,
        totals=o.totals,
        per_minute={name: o.per_minute.get(name, 0) for name in inspecting.TOTALS},
        last_hour=_last_hour(hour.whole) if hour and hour.whole else None,
    )


def _last_hour(whole: Change) -> LastHour:
    delays = whole.delays
    return LastHour(
        seconds=whole.seconds,
        totals=whole.totals,
        attempts_failed=whole.failed,
        delivery_delay=DeliveryDelay(delays.p50_s, delays.p95_s, delays.p99_s) if delays else None,
    )


def _worker(worker: Worker) -> WorkerProcess:
    return WorkerProcess(
        host=worker.host or None,
        pid=worker.pid or None,
        version=worker.version or None,
        kind=worker.kind or None,
        places=worker.places,
        busy=worker.busy if worker.host else None,
        since=_seconds(worker.since_ms),
    )


def _seconds(ms: float | None) -> float | None:
    return None if ms is None else ms / 1000
