"""The values, enums and errors that the rest of the package uses; imports nothing of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final, NamedTuple


class State(StrEnum):
    """Where a callback is. It is in exactly one state at any time."""

    QUEUED = "queued"
    PROCESSING = "processing"
    SENT = "sent"
    DEAD = "dead"
    CANCELLED = "cancelled"


class Outcome(StrEnum):
    """How one attempt ended."""

    SENT = "sent"
    RETRY = "retry"
    DEAD = "dead"


class Reason(StrEnum):
    """Why an attempt failed or a callback ended: a closed list, the same everywhere."""

    TIMEOUT = "timeout"
    CONNECT = "connect"
    DNS = "dns"
    TLS = "tls"
    RESET = "reset"
    PROTOCOL = "protocol"
    TOO_LARGE = "too_large"
    BLOCKED_ADDRESS = "blocked_address"
    REDIRECT = "redirect"
    GONE = "gone"
    RATE_LIMITED = "rate_limited"
    CLIENT_ERROR = "client_error"
    SERVER_ERROR = "server_error"
    EXPIRED = "expired"
    CRASHED = "crashed"
    CANCELLED = "cancelled"
    NO_SECRET = "no_secret"


@dataclass(frozen=True, slots=True)
class Request:
    """What is owed to one receiver, frozen at enqueue: every attempt sends these bytes.

    `headers` are the caller's own extra headers, in order, as (name, value) pairs; the
    headers that change with each attempt (`webhook-*`) are added when it is sent. `trace`: the
    context of the span that enqueued it: `traceparent`, perhaps a space and `tracestate` (W3C Trace
    Context); empty if there was none.
    """

    callback_url: str
    destination: str
    environment: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    trace: str = ""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What `enqueue` returns: the callback's id, and whether this call stored it.

    `accepted` is False if the id was already known; then nothing was stored. `conflict` is True if
    it was known with another URL, or with another event, environment or data: as bytes, that is
    as they would be sent.
    """

    id: str
    accepted: bool
    conflict: bool = False


class Steps(NamedTuple):
    """How long each step of a request took, in seconds, of whole ms; 0 if it did not come to it.

    `request`: to write the request; `answer`: from then until the first byte of the answer.
    `reused`: it went over a connection that was open already; None: there was no connection.
    """

    lookup: float = 0.0
    connect: float = 0.0
    tls: float = 0.0
    request: float = 0.0
    answer: float = 0.0
    reused: bool | None = None


@dataclass(frozen=True, slots=True)
class Timing:
    """Where an attempt's time went, from when its callback was due to the answer, in seconds.

    Before the request: `hold` under the last hold of its destination (breaker, park, pause or
    missing secret); `turn` while batches were claimed without it, because of others before it, its
    destination's pace or concurrency, or the places of all workers, and while it was given back;
    `batch` for the batch that took it; `pace` for its slot; `worker` for a message, a free thread
    and the processor; `resolver` for the secret resolver. Their sum is `waited`.

    In it: the name lookup, connecting, the TLS handshake, writing the request, waiting for the
    first byte of the answer, and the rest. The sum of all is `total`. `reused`: see `Steps`.
    """

    total: float = 0.0
    waited: float = 0.0
    hold: float = 0.0
    turn: float = 0.0
    batch: float = 0.0
    pace: float = 0.0
    worker: float = 0.0
    resolver: float = 0.0
    lookup: float = 0.0
    connect: float = 0.0
    tls: float = 0.0
    request: float = 0.0
    answer: float = 0.0
    rest: float = 0.0
    reused: bool | None = None

    def parts(self) -> dict[str, float]:
        """All parts in the order of time, by name; they add up to `total`."""
        return {name: getattr(self, name) for name in PARTS}


#: The parts of a `Timing`: before the request, and all.
PARTS_BEFORE: Final = ("hold", "turn", "batch", "pace", "worker", "resolver")
PARTS: Final = (*PARTS_BEFORE, "lookup", "connect", "tls", "request", "answer", "rest")


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of one HTTP request, before anything is decided about it.

    Exactly one of `status` (that of the final reply, 200-599) and `fault` (why there is none) is
    set. `detail` is one readable line without secrets, user info or query. `retry_after` is the
    unparsed header. `duration` is in seconds, of whole milliseconds. `said` is the start of the
    body of a failure. `steps`: where `duration` went; `resolver`: how long the secret resolver
    took before, in seconds.
    """

    status: int | None
    fault: Reason | None
    detail: str = ""
    retry_after: str | None = None
    duration: float = 0.0
    said: str = ""
    steps: Steps | None = None
    resolver: float = 0.0


class Signal(IntEnum):
    """The message that the caller of an enqueue has to send, to not wait for the next check."""

    NONE = 0
    TRIGGER = 1
    CHECK = 2


class Item(NamedTuple):
    """A callback on its way into the queue, in the order in which `enqueue.lua` takes its parts.

    `request`: frozen and packed. `delay_ms`: until it is due; `life_ms`: until it expires.
    """

    id: str
    destination: str
    request: bytes
    delay_ms: int
    life_ms: int


@dataclass(frozen=True, slots=True)
class Stored:
    """Redis' answer to an enqueue; `wait_ms` is for `Signal.CHECK`.

    `conflict`: the id is known, with another URL or another body.
    `shard`: of which the message has to be, None where there is only one.
    """

    accepted: bool
    signal: Signal = Signal.NONE
    wait_ms: int = 0
    conflict: bool = False
    shard: int | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """What is waiting, at one instant. Times in ms; None if there is nothing."""

    now_ms: int
    paused: bool
    ready: int
    oldest_due_ms: int | None
    next_ready_ms: int | None
    queued: int
    processing: int
    trigger_lost: bool = False


class Unlocked(IntEnum):
    """The result of releasing the dispatch lock; `MISSED`: a trigger found it held meanwhile."""

    LOST = 0
    DONE = 1
    MISSED = 2


class ClaimResult(IntEnum):
    """The result of a claim; `PACED`: just now all slots are other shards'."""

    LOCK_LOST = -1
    PAUSED = 0
    CLAIMED = 1
    TOO_EARLY = 2
    SATURATED = 3
    BUSY = 4
    PACED = 5


@dataclass(frozen=True, slots=True)
class Claimed:
    """One callback of a batch, with the token of its claim and its slot."""

    id: str
    token: str
    slot_ms: int


def needs_place(token: str) -> bool:
    """Whether a claim was for an unproven destination, or one that hangs."""
    return token.endswith("u")


@dataclass(frozen=True, slots=True)
class Batch:
    """One claim. `arm_ms`: when to send the next trigger, in ms; None: another process does."""

    result: ClaimResult
    now_ms: int
    arm_ms: int | None
    callbacks: tuple[Claimed, ...] = ()


@dataclass(frozen=True, slots=True)
class Slots:
    """Slots for a claim, of those of all shards: `count` of them, `every_ms` apart.

    The first is in `ahead_ms`. If there is none, it is worth asking again in `again_ms`.
    """

    ahead_ms: int
    count: int
    every_ms: int
    again_ms: int = 0


class LaterWhy(IntEnum):
    """Why the gate answered `Later`."""

    PAUSED = 1
    ON_HOLD = 2
    FULL = 3
    PACE = 4
    SUSPECT = 5
    UNPROVEN = 6


class Waited(NamedTuple):
    """How a callback came to the gate; instants in ms since 1970.

    It has been due since `due_ms`, and was claimed for its slot, `slot_ms`. Of the time until then
    it was held for `held_ms`; for another `passed_ms` batches passed over it. A retry that
    was not claimed again has all instants at its own time.
    """

    due_ms: int
    claimed_ms: int
    slot_ms: int
    passed_ms: int = 0
    held_ms: int = 0


@dataclass(frozen=True, slots=True)
class Go:
    """The gate is open: send after `wait_ms`; the attempt is counted and leased.

    `overdue_ms`: how long after its instant it takes an unproven destination's place; 0 if its
    destination is unproven. `refused`: it is the probe of a destination held for its refusals.
    `asked_ms`: when it was asked first, if it was asked again for the pace over all shards.
    """

    wait_ms: int
    attempt: int
    retries: int
    throttled: int
    crashes: int
    probe: bool
    now_ms: int
    packed: bytes
    overdue_ms: int = 0
    refused: bool = False
    waited: Waited | None = None
    asked_ms: int = 0


@dataclass(frozen=True, slots=True)
class Later:
    """The gate is shut: release the callback, due again at `due_ms`."""

    due_ms: int
    why: LaterWhy


@dataclass(frozen=True, slots=True)
class Late:
    """One step through the claimed callbacks past their slot.

    Of the `read` ones, `named` (id, token) need a message; `repeats` of these needed one before.
    """

    read: int
    repeats: int
    named: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Again:
    """It is too early to take a place in flight: ask again after `wait_ms`."""

    wait_ms: int


@dataclass(frozen=True, slots=True)
class Early:
    """The gate is shut for another `wait_ms`, too long to wait for: send another message."""

    wait_ms: int


class Refused(IntEnum):
    """This message has nothing to send."""

    STALE = 0
    EXPIRED = 4
    BEGUN = 5


Gate = Go | Later | Again | Early | Refused


class Settled(IntEnum):
    """The callback's state after a settle."""

    STALE = 0
    SENT = 1
    RETRY = 2
    QUEUED = 3
    DEAD = 4
    CANCELLED = 5


class Breaker(IntEnum):
    """What an answer did to its destination's breaker; `REFUSED`: it opened it by refusing."""

    OPENED = 1
    CLOSED = 2
    REFUSED = 3


@dataclass(frozen=True, slots=True)
class Settlement:
    """The result of a settle. `arm_ms`: when to send the next trigger, in ms; None: do not.

    `interval_us` is the destination's interval if it has adapted, `breaker` whether this answer
    opened or closed its breaker; if it opened, it is half-open at `until_ms`, and `failures` in a
    row opened it.
    """

    settled: Settled
    arm_ms: int | None = None
    interval_us: int | None = None
    breaker: Breaker | None = None
    until_ms: int = 0
    failures: int = 0


@dataclass(frozen=True, slots=True)
class Withheld:
    """The result for an attempt without a secret: queued, cancelled meanwhile, or stale.

    It is tried again after `wait_ms`.
    """

    settled: Settled
    arm_ms: int | None = None
    wait_ms: int = 0


@dataclass(frozen=True, slots=True)
class Released:
    """The result of a release; `released` is False if the token was stale."""

    released: bool
    arm_ms: int | None = None


class Effect(StrEnum):
    """What an answer says about its destination."""

    OK = "ok"
    ALIVE = "alive"
    FAULT = "fault"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Feedback:
    """What an answer changes about its destination.

    `factor`: what its interval is multiplied by, in thousandths; `hold_ms`: for how long the
    receiver asked to wait; `transport`: no answer came at all; `gone`: the URL is gone.
    """

    effect: Effect
    transport: bool = False
    factor: int = 1000
    hold_ms: int = 0
    gone: bool = False


@dataclass(frozen=True, slots=True)
class Demand:
    """What the stagger is decided by. `rate_per_s` is the rate set before, None if none was.

    `unproven`: how many unproven destinations can send at a time, one request each;
    `unproven_waiting`: how many are waiting; `unproven_per_s`: how many find a place per second.
    """

    ready: int
    accepted_per_s: float
    rate_per_s: float | None
    tried: int
    failing: int
    unproven: int = 0
    unproven_waiting: int = 0
    unproven_per_s: int = 0


class Cancelled(IntEnum):
    """The result of a cancel."""

    UNKNOWN = -1
    FINAL = 0
    CANCELLED = 1
    IN_FLIGHT = 2


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a pass over expired leases did."""

    recovered: int
    dead: int
    cancelled: int


@dataclass(frozen=True, slots=True)
class Trimmed:
    """What a pass over old records deleted."""

    sent: int
    dead: int
    destinations: int


@dataclass(frozen=True, slots=True)
class Tick:
    """An election of the ticker; `lost`: Redis has other data than this process remembers.

    `busy`: a callback has not ended, or ended only seconds or a tick ago, or memory is short.
    `jump_ms`: how far Redis' clock has jumped, if this process was the first to notice. For the
    elected one: `threads`, `places`: of all workers, and how many of them unproven destinations may
    take; `first_of_minute`: no other process was elected in this minute before.
    """

    elected: bool
    now_ms: int
    lost: bool
    epoch: str
    busy: bool
    first_of_minute: bool = False
    jump_ms: int = 0
    threads: int = 0
    places: int = 0


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes that Redis uses and may use; `limit` 0: no limit.

    `dead_bytes`: average size of some dead letters; 0 if there are none or Redis is not full.
    """

    used: int
    limit: int
    dead_bytes: int = 0


class CallbacksError(Exception):
    """Base class of this package's errors."""


class InvalidCallback(CallbacksError, ValueError):
    """Bad input to `enqueue`; names the field, what was wrong and what is expected."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class SettingsError(CallbacksError, ValueError):
    """A bad environment variable; one line that names it, its value and what is allowed."""


class QueueFull(CallbacksError):
    """Not stored: the queue is at its limit, or Redis has no room left.

    `callback_id` is the id of the first callback that was not stored; `receipts` are those of
    the callbacks of the same `enqueue_many` that were stored.
    """

    callback_id: str | None = None
    receipts: tuple[Receipt, ...] = ()
