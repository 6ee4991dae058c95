"""Reads what the batcher stores: one callback, a state, the destinations, all totals.

Nothing here changes anything, and no command reads more than a page.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from redis import Redis

from callbacks.batcher.clock import redis_ms
from callbacks.batcher.journal import Act, paused_by
from callbacks.batcher.paging import pages
from callbacks.batcher.routes import AllScripts, as_all, grouped, least
from callbacks.batcher.scripts import Scripts, raise_first
from callbacks.model import InvalidCallback, State, Timing
from callbacks.policy.buckets import Counted, read_field
from callbacks.policy.timing import unpacked
from callbacks.request.freeze import read_head
from callbacks.request.urls import Scope, host_of, read_url
from callbacks.when import instant

PAGE: Final = 500
#: Destinations in a step of a survey: half a millisecond; and most steps.
_SURVEY_PAGE: Final = 100
_SURVEY_PAGES: Final = 50
_NEVER: Final = 2**63
#: So many destinations in trouble are read to name the worst: 20 ms.
MOST_TROUBLED: Final = 200
#: A breaker that was opened by refusals, in the field `broken`.
_REFUSED: Final = "2"
#: Escapes the special characters of a Redis pattern.
LITERAL: Final = str.maketrans({c: f"\\{c}" for c in "*?[]\\"})
TOTALS: Final = (
    "accepted",
    "replayed",
    "sent",
    "attempts",
    "retried",
    "throttled",
    "dead",
    "recovered",
    "stale",
    "refused",
    "duplicates",
    "cancelled",
    "purged",
    "lost",
    "found",
)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt that has ended: its number, and its time in seconds since 1970.

    `outcome` is `sent`, `retry` or `dead`, `reason` why it failed. `status` is the HTTP status,
    None if there was no answer; `duration` is in seconds. `said`: the first 200 printable
    characters of the body of an answer that was a failure. `timing`: where its time went; None if
    that is not known: it crashed, or is of an older release.
    """

    attempt: int
    at: float
    outcome: str
    status: int | None
    reason: str | None
    duration: float
    said: str = ""
    timing: Timing | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """One callback at one instant; times in seconds since 1970.

    `phase` is its state, and within `processing` what it waits for: `claimed` (its slot), `retry`,
    or `sending` (a request is in flight). `status` is the HTTP status of the last attempt, `said`
    what it answered if it failed; `reason` is why that failed, or why the callback ended, and
    `detail` says more. `next_attempt_at` is the earliest time of the next attempt, None if there
    will be none or a request is in flight. `callback_url` is complete while the request is kept
    (in every state but `sent` and `cancelled`), afterwards without path and query. `created_at`
    is when it was enqueued, by the clock of whoever did; it, `event` and `environment` are None
    for a callback that an older release ended.
    """

    id: str
    state: State
    phase: str
    destination: str
    attempts: int
    retries: int
    crashes: int
    status: int | None
    reason: str | None
    detail: str
    next_attempt_at: float | None
    expires_at: float | None
    ended_at: float | None
    history: tuple[Attempt, ...] = field(default=())
    said: str = ""
    callback_url: str = ""
    event: str | None = None
    environment: str | None = None
    created_at: float | None = None


@dataclass(frozen=True, slots=True)
class Overview:
    """All sizes, totals and the schedule at one instant.

    `data_since_ms`: since when Redis has this data; `data_lost_ms`: when a process last noticed
    that Redis had lost its data; `ticked_ms`: when a worker last did its regular duties;
    `held_until_ms`: nothing expires before, because Redis' clock has jumped by `jump_ms`;
    `refusing`: enqueues are refused because Redis is near its memory limit.
    """

    now_ms: int
    queued: int
    processing: int
    dead: int
    sent_records: int
    destinations_waiting: int
    oldest_due_ms: int | None
    lock: str
    paused_since_ms: int | None
    next_batch_ms: int | None
    last_batch_ms: int | None
    data_since_ms: int | None
    data_lost_ms: int | None
    stagger_us: int | None
    stagger_why: str
    totals: dict[str, int]
    per_minute: dict[str, int]
    scheduled_ms: int | None = None
    ticked_ms: int | None = None
    held_until_ms: int | None = None
    jump_ms: int | None = None
    in_flight: int = 0
    dead_last_hour: int = 0
    refusing: bool = False
    paused_by: Act | None = None

    @property
    def held(self) -> bool:
        """Whether nothing expires, because Redis' clock has jumped ahead."""
        return self.held_until_ms is not None and self.held_until_ms > self.now_ms

    @property
    def balance(self) -> int:
        """Accepted, replayed and found, less everything these can have become: always 0."""
        t = self.totals
        ended = t["sent"] + t["dead"] + t["cancelled"] + t["lost"]
        return t["accepted"] + t["replayed"] + t["found"] - ended - self.queued - self.processing


@dataclass(frozen=True, slots=True)
class Survey:
    """What is ready and what is held, over at most 5,000 destinations each that wait or are held.

    `ready`, `held`: callbacks that are due and not held, or held; `ready_since_ms`,
    `held_since_ms`: when the oldest of each was due. `holds`: destinations by what holds them:
    `paused`, `breaker`, `park`, `secret`.
    """

    ready: int = 0
    ready_since_ms: int | None = None
    held_since_ms: int | None = None
    holds: dict[str, int] = field(default_factory=dict)
    held: int = 0


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker process: its threads or greenlets (`kind`; `places` of them, `busy` with a request).

    `host` is the dyno on Heroku. Empty texts: it is of a release that does not tell. `broker`: the
    id under which Dramatiq knows it.
    """

    places: int
    since_ms: int | None = None
    host: str = ""
    pid: int = 0
    version: str = ""
    kind: str = ""
    busy: int = 0
    broker: str = ""


@dataclass(frozen=True, slots=True)
class Attempts:
    """All attempts, and the sums of their durations and of the delays of what was sent."""

    counted: tuple[Counted, ...] = ()
    duration_ms: int = 0
    delay_ms: int = 0


@dataclass(frozen=True, slots=True)
class Destination:
    """One destination; times in ms.

    `breaker` is `closed`, `open` or `half-open`; `hold_why` is `full`, `park`, `breaker` or
    `secret`; `per_minute` counts attempts; `interval_ms` is None if it has not adapted,
    `interval_why` is the answer that last changed it; `latency_ms` is smoothed. `proven`: it has
    answered 2xx since its last timeout; `refuses`: its breaker was opened by 401, 403 or 404;
    `refused`: 3xx and 4xx answers in a row; `limited_at_ms`: its last 429; `failures`: attempts by
    reason in this hour and the one before; `paused_by`: who paused it, when and why.
    """

    name: str
    waiting: int
    in_flight: int
    paused: bool
    breaker: str
    faults: int
    per_minute: int
    interval_ms: float | None
    interval_why: str
    latency_ms: int | None
    hold_until_ms: int | None
    hold_why: str
    next_claim_ms: int | None
    oldest_due_ms: int | None
    last: str
    last_status: int | None = None
    proven: bool = False
    refuses: bool = False
    refused: int = 0
    limited_at_ms: int | None = None
    failures: dict[str, int] = field(default_factory=dict)
    paused_by: Act | None = None


def overview(scripts: Scripts | AllScripts) -> Overview:
    """Read sizes, schedule and totals, those of each shard at one instant."""
    found = as_all(scripts)
    each = [_overview(answer) for answer in found.run_in_all("status", {})]
    if len(each) == 1:
        return each[0]
    return _combined(_overview(found.home.run("status", {})), each)


def _combined(home: Overview, each: Sequence[Overview]) -> Overview:
    """The overview of several shards; `home` has what belongs to none of them."""
    totals, rates = Counter[str](), Counter[str]()
    for one in each:
        totals.update(one.totals)
        rates.update(one.per_minute)
    longest = max(each, key=lambda one: one.held_until_ms or 0)
    return replace(
        home,
        queued=sum(one.queued for one in each),
        processing=sum(one.processing for one in each),
        dead=sum(one.dead for one in each),
        sent_records=sum(one.sent_records for one in each),
        destinations_waiting=sum(one.destinations_waiting for one in each),
        oldest_due_ms=least(one.oldest_due_ms for one in each),
        lock=", ".join(one.lock for one in each if one.lock),
        next_batch_ms=least(one.next_batch_ms for one in each),
        last_batch_ms=max((one.last_batch_ms or 0 for one in each), default=0) or None,
        data_lost_ms=max((one.data_lost_ms or 0 for one in (home, *each)), default=0) or None,
        totals={name: totals[name] for name in TOTALS},
        per_minute=dict(rates),
        held_until_ms=longest.held_until_ms,
        jump_ms=longest.jump_ms,
        in_flight=sum(one.in_flight for one in each),
        dead_last_hour=sum(one.dead_last_hour for one in each),
        refusing=any(one.refusing for one in each),
    )


def _overview(answer: Sequence[Any]) -> Overview:
    (
        now, queued, processing, dead, sent, waiting, oldest, lock, state, counters, rates,
        in_flight, died,
    ) = answer  # fmt: skip
    schedule, counted = _fields(state), _fields(counters)
    return Overview(
        now_ms=now,
        queued=queued,
        processing=processing,
        dead=dead,
        sent_records=sent,
        destinations_waiting=waiting,
        oldest_due_ms=oldest if oldest >= 0 else None,
        lock=lock.decode().rpartition(":")[0],
        paused_since_ms=_int(schedule.get("paused")),
        next_batch_ms=_int(schedule.get("next_batch")) or None,
        last_batch_ms=_int(schedule.get("last_batch")) or None,
        data_since_ms=_int(schedule.get("epoch", "").partition("-")[0]),
        data_lost_ms=_int(schedule.get("lost")),
        stagger_us=_int(schedule.get("stagger")),
        stagger_why=schedule.get("why", ""),
        totals={name: int(counted.get(name, 0)) for name in TOTALS},
        per_minute={name: int(value) for name, value in _fields(rates).items()},
        scheduled_ms=_int(schedule.get("scheduled")),
        ticked_ms=_int(schedule.get("ticked")),
        held_until_ms=_int(schedule.get("held")),
        jump_ms=_int(schedule.get("jump")),
        in_flight=in_flight,
        dead_last_hour=died,
        refusing="full" in schedule,
        paused_by=paused_by(schedule.get("paused"), schedule.get("paused_by")),
    )


def survey(scripts: Scripts | AllScripts) -> Survey:
    """Count what is ready and what is held, page by page, each shard for itself."""
    each = [_survey(shard) for shard in as_all(scripts).shards]
    holds = Counter[str]()
    for one in each:
        holds.update(one.holds)
    return Survey(
        ready=sum(one.ready for one in each),
        ready_since_ms=least(one.ready_since_ms for one in each),
        held_since_ms=least(one.held_since_ms for one in each),
        holds=dict(holds),
        held=sum(one.held for one in each),
    )


def _survey(scripts: Scripts) -> Survey:
    ready, held, since, held_since, holds = 0, 0, _NEVER, _NEVER, Counter[str]()
    for among in ("ring", "unproven", "held"):
        for page in range(_SURVEY_PAGES):
            call = {"among": among, "offset": page * _SURVEY_PAGE, "limit": _SURVEY_PAGE}
            read, some, some_held, first, first_held, *words = scripts.run("survey", call)
            held_since = min(held_since, first_held if first_held >= 0 else _NEVER)
            if among == "held":
                holds.update(dict(zip(map(bytes.decode, words[::2]), words[1::2], strict=True)))
            else:
                ready, held = ready + some, held + some_held
                since = min(since, first if first >= 0 else _NEVER)
            if read < _SURVEY_PAGE:
                break
    return Survey(
        ready=ready,
        ready_since_ms=None if since == _NEVER else since,
        held_since_ms=None if held_since == _NEVER else held_since,
        holds=dict(holds),
        held=held,
    )


def workers(scripts: Scripts | AllScripts, now_ms: int) -> list[Worker]:
    """Read which worker processes have reported lately, the oldest first."""
    home = as_all(scripts).home
    with home.client.pipeline(transaction=False) as pipe:
        pipe.hgetall(home.keys.of("workers"))
        pipe.hgetall(home.keys.of("identities"))
        words, identities = pipe.execute()
    found = [
        _worker(int(word.split()[0]), identities.get(ticker, b""))
        for ticker, word in words.items()
        if int(word.split()[2]) > now_ms
    ]
    return sorted(found, key=lambda worker: (worker.since_ms or 0, worker.host, worker.pid))


def _worker(places: int, told: bytes) -> Worker:
    if not told:  # of a release that does not tell
        return Worker(places=places)
    since, who = told.split(b" ", 1)
    return Worker(places=places, since_ms=int(since), **json.loads(who))


def attempts(scripts: Scripts | AllScripts) -> Attempts:
    """Read all attempts, counted by outcome, reason, status class and buckets of times."""
    found, fields = as_all(scripts), Counter[str]()
    places = {found.home, *found.shards}  # the sums of times may belong to no shard
    commands = (("HGETALL", place.keys.of("attempts")) for place in places)
    for flat in found.home.stream(commands):
        fields.update({name: int(value) for name, value in _fields(flat).items()})
    counted = (read_field(name, value) for name, value in fields.items())
    return Attempts(
        counted=tuple(one for one in counted if one),
        duration_ms=fields.get("duration", 0),
        delay_ms=fields.get("delay", 0),
    )


def find(scripts: Scripts | AllScripts, id: str) -> Status | None:
    """Read one callback; None if its id is unknown."""
    (shard,) = as_all(scripts).locate([id])
    found = Where(shard.run("where", {"id": id, "lane": ""}))
    state = found.state
    return None if state is None else found.status(id, state)


class Where:
    """The answer of `where.lua`."""

    def __init__(self, answer: list[Any]) -> None:
        self.now_ms = int(answer[0])
        self.destination = answer[1].decode()
        lane, lease, expiry, sent, dead, inflight = (_int(value) for value in answer[2:8])
        self.lane, self.lease, self.expiry = lane, lease, expiry
        self.sent, self.dead, self.inflight = sent, dead, inflight
        self.kept = bool(answer[8])
        self.head = read_head(answer[9])
        self.record = _fields(answer[10:])

    @property
    def state(self) -> State | None:
        """The callback's state; None if it is in no structure."""
        if self.lane is not None:
            return State.QUEUED
        if self.lease is not None:
            return State.PROCESSING
        if self.dead is not None:
            return State.DEAD
        if self.sent is not None:
            return State(self.record.get("s", State.SENT))
        return None

    def status(self, id: str, state: State) -> Status:
        record = self.record
        history = _history(record.get("h", ""))
        last = history[-1] if history else None
        return Status(
            id=id,
            state=state,
            phase=record.get("s", "queued"),
            destination=self.destination,
            attempts=int(record.get("a", 0)),
            retries=int(record.get("r", 0)),
            crashes=int(record.get("c", 0)),
            status=last.status if last else None,
            reason=record.get("o") or None,
            detail=record.get("e", ""),
            next_attempt_at=self._next_s(state),
            expires_at=None if self.expiry is None else self.expiry / 1000,
            ended_at=None if "f" not in record else int(record["f"]) / 1000,
            history=history,
            said=last.said if last else "",
            callback_url=self.head.callback_url if self.head else self._origin(),
            event=self._said_first("event"),
            environment=self._said_first("environment"),
            created_at=self._created_at(),
        )

    def _said_first(self, what: str) -> str | None:
        """The event or environment: from its request, or else from what its record keeps."""
        if self.head:
            return str(getattr(self.head, what))
        kept = self.record.get({"event": "y", "environment": "n"}[what])
        return None if kept is None else str(json.loads(f'"{kept}"'))

    def _created_at(self) -> float | None:
        if self.head:
            return self.head.created_at
        kept = self.record.get("k")
        return None if kept is None else instant(kept)

    def _origin(self) -> str:
        """Its URL without path and query."""
        try:
            url = read_url(host_of(self.destination))
        except InvalidCallback:
            return str(self.destination)
        return f"{url.scheme}://{url.authority}"

    def _next_s(self, state: State) -> float | None:
        if state is State.QUEUED and self.lane is not None:
            return self.lane / 1000
        if state is State.PROCESSING and self.record.get("s") != "sending":
            return int(self.record.get("due", self.now_ms)) / 1000
        return None


class Inspector:
    """Reads one namespace, or one shard of it, page by page."""

    def __init__(self, scripts: Scripts | AllScripts) -> None:
        self.scripts = as_all(scripts)
        self.client: Redis = scripts.client

    # Pages

    def count_dead(self, since_ms: int | None = None, until_ms: int | None = None) -> int:
        """How many dead letters there are, or died since then and before."""
        low = "-inf" if since_ms is None else since_ms
        high = "+inf" if until_ms is None else f"({until_ms}"
        keys = (shard.keys.of("dead") for shard in self.scripts.shards)
        return sum(self.scripts.home.stream(("ZCOUNT", key, low, high) for key in keys))

    def request(self, id: str) -> bytes | None:
        """The frozen request of a callback, if it is still kept."""
        (shard,) = self.scripts.locate([id])
        found: Any = shard.client.get(shard.keys.of("cb:", id))
        return None if found is None else bytes(found)

    def find_many(self, ids: list[str]) -> list[Status]:
        """Read many callbacks in one pipeline; leaves out unknown ids."""
        found = zip(ids, self.where_many(ids), strict=True)
        return [where.status(id, where.state) for id, where in found if where.state]

    def where_many(self, ids: Sequence[str]) -> list[Where]:
        """Read which structures hold callbacks, in one pipeline."""
        located = zip(ids, self.scripts.locate(ids), strict=True)
        calls = ((shard, {"id": id, "lane": ""}) for id, shard in located)
        return [Where(each) for each in raise_first(self.scripts.home.run_across("where", calls))]

    def reserved(self, ids: Sequence[str]) -> list[int | None]:
        """For which shards ids are reserved in their own ones."""
        return self.scripts.reserved(ids)

    def waiting(self) -> Iterator[str]:
        """Iterate over the destinations with something waiting."""
        yield from self.members("ring")
        yield from self.members("unproven")

    def knows(self, destination: str) -> bool:
        """Tell whether something waits for a destination, or was sent to it within a day."""
        shard = self.scripts.of(destination)
        names = (shard.keys.of(name) for name in ("ring", "unproven", "destinations"))
        return any(shard.client.zscore(name, destination) is not None for name in names)

    def lanes(self, host: Scope) -> list[str]:
        """Return the lanes and paths of a host that wait, or were used within a day.

        Returns at least all that exist throughout the call, whatever changes meanwhile.
        """
        pattern, found = host.name.translate(LITERAL) + "[#/]*", set[str]()
        for shard in self.scripts.shards:
            for name in ("ring", "unproven", "destinations"):
                rows = shard.client.zscan_iter(shard.keys.of(name), match=pattern, count=PAGE)
                found.update(raw.decode() for raw, _ in rows)
        return sorted(found - {host.mark})

    def destinations(
        self, *, covers: Callable[[str], bool] = lambda _name: True, after: str = ""
    ) -> Iterator[Destination]:
        """Iterate, ordered by name, over the destinations that wait or were used within a day.

        Only over those that `covers` takes, and whose names come behind `after`. Includes hosts
        that are paused with all their lanes. Reads all names first, in a second for 100,000, and
        everything else page by page.
        """
        paused: set[str] = set()
        known = {*self.waiting(), *self.members("destinations")}
        names = sorted(name for name in known if name > after and covers(name))
        for page in pages(names, PAGE):
            for one in self._destinations(page):
                if one.paused:
                    paused.add(one.name)
                if not is_mark(one.name) or _tells_more(one, paused):
                    yield one

    def troubled(self, limit: int = MOST_TROUBLED) -> list[Destination]:
        """Read those in trouble, or lately so, the longest first; at most `limit`."""
        names = self.scripts.first("troubled", limit)
        return self._destinations(names) if names else []

    def place(self, destination: str) -> tuple[bool, float | None, bool, bool]:
        """Tell if something waits, and the place in the ring: where, if too late, if in both rings.

        Read atomically, by a script because a full Redis refuses MULTI.
        """
        shard = self.scripts.of(destination)
        waits, place, late, twice = shard.run("place", {"destination": destination})
        return bool(waits), float(place) if place else None, bool(late), bool(twice)

    def destination(self, name: str) -> Destination:
        """Read one destination, known or not."""
        return self._destinations([name])[0]

    def _destinations(self, names: list[str]) -> list[Destination]:
        now_ms = redis_ms(self.client)
        found = {
            one.name: one
            for shard, its in grouped(names, self.scripts.of).items()
            for one in _read_destinations(shard, its, now_ms)
        }
        return [found[name] for name in names]

    def first(self, name: str, member: str, limit: int) -> list[tuple[str, float]]:
        """Return the first members of a destination's sorted set, with their scores."""
        shard = self.scripts.of(member)
        key = shard.keys.of(name, member)
        rows: Any = shard.client.zrange(key, 0, limit - 1, withscores=True)
        return [(raw.decode(), score) for raw, score in rows]

    def members(self, name: str, member: str = "") -> Iterator[str]:
        """Iterate over a sorted set by rank, a page at a time.

        If it changes meanwhile, a member may be missed or returned twice.
        """
        shards = (self.scripts.of(member),) if member else self.scripts.shards
        for shard in shards:
            start, more = 0, True
            while more:
                key = shard.keys.of(name, member)
                page: Any = shard.client.zrange(key, start, start + PAGE - 1)
                yield from (raw.decode() for raw in page)
                start, more = start + PAGE, len(page) == PAGE


def _read_destinations(shard: Scripts, names: list[str], now_ms: int) -> list[Destination]:
    """Read destinations of one shard."""
    hour, keys = now_ms // 3_600_000, shard.keys
    with shard.client.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.zcard(keys.of("lane:", name))
            pipe.zrange(keys.of("lane:", name), 0, 0, withscores=True)
            pipe.zcount(keys.of("inflight:", name), now_ms, "+inf")
            pipe.hgetall(keys.of("dest:", name))
            pipe.zscore(keys.of("ring"), name)
            pipe.zscore(keys.of("unproven"), name)
            pipe.hmget(keys.of("dest:", Scope(host_of(name)).mark), "paused", name, "paused_by")
            pipe.hgetall(keys.of("failed:", f"{hour - 1}:{name}"))
            pipe.hgetall(keys.of("failed:", f"{hour}:{name}"))
        answers = pipe.execute()
    rows = (answers[start : start + 9] for start in range(0, len(answers), 9))
    return [_destination(name, row, now_ms) for name, row in zip(names, rows, strict=True)]


def is_mark(name: str) -> bool:
    """Whether this is not a destination but the mark that pauses all lanes of a host."""
    return name.endswith("#*")


def _tells_more(mark: Destination, paused: set[str]) -> bool:
    return mark.paused and host_of(mark.name) not in paused


def is_paused(name: str, own: Any, marked: Sequence[Any]) -> bool:
    """Whether a destination is paused: by itself, or as a lane of its host (see `keys`)."""
    whole, resumed, *_ = marked
    return bool(own) or (host_of(name) != name and bool(whole) and not resumed)


def _destination(name: str, row: list[Any], now_ms: int) -> Destination:
    waiting, first, in_flight, raw, *places, marked, before, this = row
    failures = (before, this)
    place = next((place for place in places if place is not None), None)
    state = {key.decode(): value.decode() for key, value in raw.items()}
    hold, last = int(state.get("hold", 0)), state.get("last", "").split()
    held = hold > now_ms
    interval = _int(state.get("interval"))
    breaker = "closed"
    if "broken" in state:
        breaker = "open" if held and not in_flight else "half-open"
    return Destination(
        name=name,
        waiting=waiting,
        in_flight=in_flight,
        paused=is_paused(name, state.get("paused"), marked),
        breaker=breaker,
        faults=int(state.get("fails", 0)),
        per_minute=_per_minute(state, now_ms),
        interval_ms=None if interval is None else interval / 1000,
        interval_why=state.get("moved", ""),
        latency_ms=_int(state.get("latency")),
        hold_until_ms=hold if held else None,
        hold_why=state.get("why", "") if held else "",
        next_claim_ms=None if place is None or place == float("inf") else int(place),
        oldest_due_ms=int(first[0][1]) if first else None,
        last=last[1] if len(last) > 1 else "",
        last_status=_int(last[2]) if len(last) > 2 else None,
        proven="ok" in state,
        refuses=state.get("broken") == _REFUSED,
        refused=int(state.get("refused", 0)),
        limited_at_ms=_int(state.get("limited")),
        failures=_summed(failures),
        paused_by=_paused_by(name, state, marked),
    )


def _paused_by(name: str, state: dict[str, str], marked: Sequence[Any]) -> Act | None:
    """Who paused a destination: itself, or else its host with all lanes."""
    if "paused" in state:
        return paused_by(state["paused"], state.get("paused_by"))
    if not is_paused(name, None, marked):
        return None
    whole, _, entry = marked
    return paused_by(whole.decode(), entry.decode() if entry else None)


def _summed(failures: Sequence[dict[bytes, bytes]]) -> dict[str, int]:
    """The failures of both hours by reason, most first."""
    sums: dict[str, int] = {}
    for hour in failures:
        for reason, count in hour.items():
            sums[reason.decode()] = sums.get(reason.decode(), 0) + int(count)
    return dict(sorted(sums.items(), key=lambda item: -item[1]))


def _per_minute(state: dict[str, str], now_ms: int) -> int:
    """Attempts in the last 60 s; of the previous minute's, the share that lies within them."""
    minute, share = divmod(now_ms / 60_000, 1)
    behind = minute - int(state.get("m", 0))
    this, before = int(state.get("mc", 0)), int(state.get("mp", 0))
    if behind > 1:
        return 0
    if behind == 1:
        this, before = 0, this
    return round(this + (1 - share) * before)


def _history(text: str) -> tuple[Attempt, ...]:
    return tuple(_attempt(*entry) for entry in json.loads(f"[{text}]"))


def _attempt(  # noqa: PLR0917 - a list in JSON
    attempt: int,
    at_ms: int,
    outcome: str,
    status: int | None,
    reason: str | None,
    duration_ms: int,
    said: str = "",
    word: str | None = None,
    *_newer: Any,
) -> Attempt:
    """Read one entry, see `worker.attempt.history_entry`.

    An older release has not written all of it, and a newer one may write more.
    """
    timing = None if word is None else unpacked(word, duration_ms)
    at, duration = at_ms / 1000, duration_ms / 1000
    return Attempt(attempt, at, outcome, status, reason, duration, said, timing)


def _fields(flat: list[bytes | int]) -> dict[str, str]:
    words = [str(word, "utf-8") if isinstance(word, bytes) else str(word) for word in flat]
    return dict(zip(words[::2], words[1::2], strict=True))


def _int(value: bytes | str | int | None) -> int | None:
    return int(float(value)) if value else None
