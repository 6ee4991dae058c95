"""What the functions of `callbacks.admin` return: frozen values.

One unit everywhere: seconds, as floats. A field that ends in `_at`, `_since` or `_until`, and `at`
and `since` themselves, are instants in seconds since 1970; `documents.document` writes them in
RFC 3339. Others (`..._age`, `..._in`, `duration`, `interval`) are durations.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from callbacks.batcher.inspector import Status
from callbacks.batcher.journal import Act
from callbacks.model import State

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Page(Generic[_T]):
    """Some items of a list; iterating over it and `len` are those of `items`.

    `cursor` gets the next page: give it to the same function, with the same filters. It is None
    at the end of the list. A page may have fewer items than its limit, even none, and a cursor:
    then that many records were read without finding more.
    """

    items: tuple[_T, ...]
    cursor: str | None = None

    def __iter__(self) -> Iterator[_T]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True, slots=True)
class WorkerProcess:
    """A worker process: `places` threads or greenlets (`kind`), `busy` of them with a request.

    `host` is the dyno on Heroku. What a process of an older release does not tell is None.
    """

    host: str | None
    pid: int | None
    version: str | None
    kind: str | None
    places: int
    busy: int | None
    since: float | None


@dataclass(frozen=True, slots=True)
class TroubledDestination:
    """A destination in trouble: why, and what to do about it."""

    destination: str
    reason: str
    todo: str


@dataclass(frozen=True, slots=True)
class DeliveryDelay:
    """How long it took from enqueue to 2xx for 50, 95 and 99 of 100, within the buckets counted."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True)
class LastHour:
    """What happened in the last hour, or in as much of it (`seconds`) as is known.

    `totals`: how many of each transition; `attempts_failed` by reason; `delivery_delay`: None if
    nothing was sent.
    """

    seconds: float
    totals: Mapping[str, int]
    attempts_failed: Mapping[str, int]
    delivery_delay: DeliveryDelay | None


@dataclass(frozen=True, slots=True)
class SystemStatus:
    """Sizes, totals, rates and health, all at the instant `at`.

    `health` is a word, see `callbacks.monitor.health.WORDS`, with its reason, what to do, and where
    docs/runbook.md says more. `ready`, `held`: callbacks that are due.
    `oldest_queued_age` is that of the oldest callback that is due; it is either ready or held.
    `destinations_held`: destinations by what holds them (`paused`, `breaker`, `park`, `secret`).
    `producers`: other processes that sent a message within ten seconds. `redis_memory` and its
    limit are in bytes, None if they may not be read; a limit of 0 is none. `trouble` are the worst
    of the `in_trouble` destinations. `totals` count transitions and never fall; `per_minute`: how
    many of them were in the last minute; `last_hour`: None until there are two samples. `balance`
    is 0 if the totals agree with the sizes.
    """

    at: float
    health: str
    health_reason: str
    health_todo: str
    health_runbook: str
    queued: int
    ready: int
    held: int
    processing: int
    in_flight: int
    dead: int
    dead_last_hour: int
    sent_records: int
    paused: bool
    paused_since: float | None
    paused_by: str | None
    paused_reason: str | None
    oldest_queued_age: float | None
    oldest_ready_age: float | None
    oldest_held_age: float | None
    destinations_held: Mapping[str, int]
    destinations_waiting: int
    send_interval: float
    send_interval_reason: str
    last_batch_age: float | None
    next_batch_in: float | None
    lock: str | None
    data_since: float | None
    data_lost_at: float | None
    expiry_held_until: float | None
    scheduler_seen_at: float | None
    workers: tuple[WorkerProcess, ...]
    producers: int
    redis_memory: int | None
    redis_memory_limit: int | None
    in_trouble: int
    trouble: tuple[TroubledDestination, ...]
    balance: int
    totals: Mapping[str, int]
    per_minute: Mapping[str, int]
    last_hour: LastHour | None


@dataclass(frozen=True, slots=True)
class Destination:
    """One destination and its condition.

    `condition` says in words whether it can be sent to, and if not, why and for how long.
    `limit`: how many requests it may have in flight now (None: any number), and why. `breaker` is
    `closed`, `open` or `half-open`; `faults` are those in a row. `hold_why` is `full`, `park`,
    `breaker` or `secret`. `per_minute` counts attempts. `interval` is None if it has not adapted;
    `interval_why` is the answer that last changed it. `latency` is smoothed. `last` is the last
    outcome, `last_status` its HTTP status. `proven`: it has answered 2xx since its last timeout;
    `refuses`: its breaker was opened by 401, 403 or 404; `refused`: 3xx and 4xx answers in a row;
    `limited_at`: its last 429. `failures`: attempts by reason in this hour and the one before.
    `trouble` and `todo`: what is wrong and what to do, None if nothing is wrong.
    """

    name: str
    condition: str
    waiting: int
    in_flight: int
    limit: int | None
    limit_why: str
    paused: bool
    paused_by: Act | None
    breaker: str
    faults: int
    held_until: float | None
    hold_why: str
    per_minute: int
    interval: float | None
    interval_why: str
    latency: float | None
    next_claim_at: float | None
    oldest_due_at: float | None
    last: str
    last_status: int | None
    proven: bool
    refuses: bool
    refused: int
    limited_at: float | None
    failures: Mapping[str, int]
    trouble: str | None
    todo: str | None


@dataclass(frozen=True, slots=True)
class Story:
    """One callback with everything that can be told of it.

    `next` says in a sentence what comes next, `hint` what to do about a failure. `header_names`
    and `body_bytes` are None when its request is no longer kept.
    """

    status: Status
    next: str
    hint: str | None
    header_names: tuple[str, ...] | None
    body_bytes: int | None


@dataclass(frozen=True, slots=True)
class Cancellation:
    """What a cancel did; `state` is the callback's state afterwards, None if its id is unknown.

    `cancelled`: it will not be sent, whether by this call or by an earlier one. `in_flight`: a
    request is under way, and there will be none after it.
    """

    id: str
    cancelled: bool
    in_flight: bool
    state: State | None

    @property
    def done(self) -> bool:
        """Whether it had an effect; False for a callback that is sent, dead or unknown."""
        return self.cancelled or self.in_flight


@dataclass(frozen=True, slots=True)
class Pause:
    """What was paused; `destination` is `all`, or its name.

    `lanes` and `paths`: how many that are known of a host are paused with it. `in_flight`:
    requests that are still under way. `known` is False if nothing is queued for the destination
    and nothing was sent to it in the last day.
    """

    destination: str
    lanes: int
    paths: int
    in_flight: int
    known: bool


@dataclass(frozen=True, slots=True)
class Resumption:
    """What was resumed; `target` is `all`, a destination, or the URL whose 410 mark is cleared.

    `destination` is `all`, or that of the target. `lanes` and `paths`: how many that are known of a
    host are resumed with it. `changed` is False if there was nothing to resume. `still_paused`:
    the mark of a URL is cleared, but its destination is paused.
    """

    target: str
    destination: str
    lanes: int
    paths: int
    changed: bool
    still_paused: bool = False


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """How many dead letters were replayed or purged, or with `dry_run` would have been.

    `destination` is the one that was named, None if none was; `lanes` and `paths`: of how many of
    its lanes and paths they are. `not_dead`: those of the given ids that are no dead letters.
    """

    count: int
    dry_run: bool = False
    destination: str | None = None
    lanes: int = 0
    paths: int = 0
    not_dead: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Flush:
    """The callbacks that were claimed. `why`: why there are none; `away`: which shards could not
    be reached.

    `refused`: there could be none, because sending is paused, the last batch was claimed too
    recently, or the workers do not keep up.
    """

    ids: tuple[str, ...] = ()
    why: str = ""
    refused: bool = False
    away: str = ""


@dataclass(frozen=True, slots=True)
class Cleanup:
    """Callbacks taken back because their lease was over; of these, how many are dead or cancelled.

    `expired`: those ended because they were too old, None unless that was asked for.
    """

    recovered: int
    dead: int
    cancelled: int
    expired: int | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """An inconsistency of what Redis holds, in `name`; `repair` is what was done about it."""

    name: str
    problem: str
    repair: str | None = None

    def __str__(self) -> str:
        line = f"{self.name}: {self.problem}"
        return f"{line}; {self.repair}" if self.repair else line


@dataclass(frozen=True, slots=True)
class Audit:
    """What an audit found: the problems that there are, and those that were repaired."""

    problems: tuple[Problem, ...] = ()
    repaired: tuple[Problem, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong (any more)."""
        return not self.problems
