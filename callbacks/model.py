"""The words of `callbacks` as frozen values, enums and errors.

Everything else in the package speaks in these types; this module imports none of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum


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
    headers that change with each attempt (`webhook-*`) are added when it is sent.
    """

    callback_url: str
    destination: str
    environment: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


@dataclass(frozen=True, slots=True)
class Receipt:
    """What `enqueue` gives back: the callback's id, and whether this call brought it in.

    `accepted` is False where that id was known already; then nothing was stored.
    """

    id: str
    accepted: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one HTTP request, before anything is decided about it.

    Exactly one of `status` (the final status line, 200-599) and `fault` is set: `fault`
    is the transport's reason for there being no final status. `detail` is one line for
    people, without secrets, user info or query. `retry_after` is that header as it came.
    """

    status: int | None
    fault: Reason | None
    detail: str = ""
    retry_after: str | None = None
    duration_ms: int = 0


class Signal(IntEnum):
    """What the caller of an enqueue has to send, so that nobody waits for the next check."""

    NONE = 0
    TRIGGER = 1
    CHECK = 2


@dataclass(frozen=True, slots=True)
class Stored:
    """Redis' answer to an enqueue; `wait_ms` is for `Signal.CHECK`."""

    accepted: bool
    signal: Signal = Signal.NONE
    wait_ms: int = 0


@dataclass(frozen=True, slots=True)
class Look:
    """What waits, as of one reading. Times in ms; None if there is nothing."""

    now_ms: int
    paused: bool
    ready: int
    oldest_due_ms: int | None
    next_ready_ms: int | None
    queued: int
    processing: int
    trigger_lost: bool = False


class Unlocked(IntEnum):
    """How giving the dispatch lock back went; `MISSED`: a trigger found it held meanwhile."""

    LOST = 0
    DONE = 1
    MISSED = 2


class ClaimResult(IntEnum):
    """How a claim went."""

    LOCK_LOST = -1
    PAUSED = 0
    CLAIMED = 1
    TOO_EARLY = 2
    SATURATED = 3


@dataclass(frozen=True, slots=True)
class Claimed:
    """One callback of a batch, with the token of its claim and its slot."""

    id: str
    token: str
    slot_ms: int


def needs_place(token: str) -> bool:
    """Whether a claim was for a destination that had not answered lately, or that hangs."""
    return token.endswith("u")


@dataclass(frozen=True, slots=True)
class Batch:
    """One claim. `arm_ms`: send the next trigger in so many ms; None: somebody else does."""

    result: ClaimResult
    now_ms: int
    arm_ms: int | None
    callbacks: tuple[Claimed, ...] = ()


class LaterWhy(IntEnum):
    """Why the gate said later."""

    PAUSED = 1
    ON_HOLD = 2
    FULL = 3
    PACE = 4
    SUSPECT = 5
    UNPROVEN = 6


@dataclass(frozen=True, slots=True)
class Go:
    """The gate is open: send after `wait_ms`; the attempt is counted and leased.

    `overdue_ms`: so long after its instant it takes a place of those for destinations that have
    not answered lately; 0 where its destination is one of them.
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


@dataclass(frozen=True, slots=True)
class Later:
    """The gate is shut: release the callback, due again at `due_ms`."""

    due_ms: int
    why: LaterWhy


@dataclass(frozen=True, slots=True)
class Late:
    """Claimed callbacks past their slot, one step through them.

    `read` were looked at, `named` (id, token) need a message, `repeats` of these not for the
    first time.
    """

    read: int
    repeats: int
    named: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Again:
    """Too long before its slot to take a place in flight: ask again after `wait_ms`."""

    wait_ms: int


@dataclass(frozen=True, slots=True)
class Early:
    """The gate is shut for `wait_ms` more, too long to wait there: another message is needed."""

    wait_ms: int


class Refused(IntEnum):
    """The gate answers none of this message's business."""

    STALE = 0
    EXPIRED = 4
    BEGUN = 5


Gate = Go | Later | Again | Early | Refused


class Settled(IntEnum):
    """What a settle made of the callback."""

    STALE = 0
    SENT = 1
    RETRY = 2
    QUEUED = 3
    DEAD = 4
    CANCELLED = 5


class Breaker(IntEnum):
    """What an answer did to its destination's breaker."""

    OPENED = 1
    CLOSED = 2


@dataclass(frozen=True, slots=True)
class Settlement:
    """A settle's result. `arm_ms`: send the next trigger in so many ms; None: need not.

    `interval_us` is the destination's interval where it has adapted, `breaker` whether this
    answer opened or closed its breaker.
    """

    settled: Settled
    arm_ms: int | None = None
    interval_us: int | None = None
    breaker: Breaker | None = None


@dataclass(frozen=True, slots=True)
class Withheld:
    """What became of an attempt without a secret: queued, cancelled meanwhile, or stale.

    It is tried again after `wait_ms`.
    """

    settled: Settled
    arm_ms: int | None = None
    wait_ms: int = 0


@dataclass(frozen=True, slots=True)
class Released:
    """A release's result, likewise; `released` is False where the token was stale."""

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

    `factor` is by how many thousandths its interval changes, `hold_ms` for how long it asked
    to be left alone, `transport` whether no answer came at all, `gone` whether its URL is.
    """

    effect: Effect
    transport: bool = False
    factor: int = 1000
    hold_ms: int = 0
    gone: bool = False


@dataclass(frozen=True, slots=True)
class Demand:
    """What is wanted of the stagger. `rate_per_s` is what was set before, None: nothing yet.

    `unproven`: destinations that have not answered lately and can send at a time, one request
    each; `unproven_waiting`: all of these that wait; `unproven_per_s`: how many of them find a
    place in a second, as places come free.
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
    """What a cancel found."""

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
    """What a pass over old records forgot."""

    sent: int
    dead: int
    destinations: int


@dataclass(frozen=True, slots=True)
class Tick:
    """An election of the ticker; `lost`: Redis holds other data than this process remembers.

    `busy`: a callback has not ended yet, or memory is short. `jump_ms`: this process was the
    first to notice that Redis' clock has jumped by so much.
    """

    elected: bool
    now_ms: int
    lost: bool
    epoch: str
    busy: bool
    jump_ms: int = 0


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes that Redis uses and may use; `limit` 0: as many as it likes.

    `dead_bytes`: what a dead letter takes, on average of some of them; 0 where there is none.
    """

    used: int
    limit: int
    dead_bytes: int = 0


class CallbacksError(Exception):
    """The base of this package's own errors."""


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

    `callback_id` is that of the callback, or of the first one that was not stored; `receipts` are
    those of the other callbacks of the same `enqueue_many` that were stored.
    """

    callback_id: str | None = None
    receipts: tuple[Receipt, ...] = ()
