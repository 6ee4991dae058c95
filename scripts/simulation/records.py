"""What is known of a destination and of a callback: the fields of `dest:` and `rec:` that matter.

Names are those of `callbacks/batcher/keys.py` and `lua/parts/record.lua`. Times are in ms.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from scripts.simulation.receivers import Receiver
    from scripts.simulation.ring import Ring
    from scripts.simulation.shard import Shard

NEVER: Final = -(10**9)


class Phase(IntEnum):
    """Where a callback is."""

    QUEUED = 0
    CLAIMED = 1
    RETRY = 2
    SENDING = 3
    SENT = 4
    DEAD = 5


class Destination:
    """One destination. `interval_us` is None until it adapts; `last_at`: its last request."""

    __slots__ = (
        "allowed_at",
        "broken",
        "fails",
        "grown",
        "hold",
        "inflight",
        "interval_us",
        "lane",
        "last_at",
        "latency",
        "number",
        "ok",
        "opens",
        "place",
        "receiver",
        "ring",
        "seen",
        "send",
        "shard",
        "share",
        "slot",
        "tried_at",
        "why",
    )

    def __init__(self, number: int, receiver: Receiver, shard: Shard, *, ok: bool) -> None:
        """Make one that waits for nothing. `ok`: it has answered 2xx before."""
        self.number, self.receiver, self.shard, self.ok = number, receiver, shard, ok
        self.lane: list[tuple[int, int, Callback]] = []
        self.inflight: dict[Callback, int] = {}
        self.ring: Ring | None = None
        self.place = self.slot = self.send = self.hold = 0
        self.why = ""
        self.broken = False
        self.opens = self.fails = self.share = self.latency = self.grown = 0
        self.interval_us: int | None = None
        self.seen = 0 if ok else NEVER
        self.tried_at = self.last_at = self.allowed_at = NEVER

    def __lt__(self, other: Destination) -> bool:
        return self.number < other.number


class Callback:
    """One callback. `due`: in its lane, of its slot, or of its retry, whichever it waits for.

    `token`: of its claim; `needs_place`: it was claimed for an unproven destination.
    """

    __slots__ = (
        "attempts",
        "began_at",
        "crashes",
        "created",
        "destination",
        "due",
        "interval",
        "is_counted",
        "lease",
        "needs_place",
        "number",
        "phase",
        "placed",
        "placed_at",
        "probe",
        "requests",
        "retries",
        "throttled",
        "token",
        "woken_at",
    )

    def __init__(self, number: int, destination: Destination, created: int) -> None:
        self.number, self.destination, self.created = number, destination, created
        self.phase = Phase.QUEUED
        self.due = created
        self.token = 0
        self.attempts = self.retries = self.throttled = self.crashes = self.requests = 0
        self.began_at = self.placed_at = self.lease = self.interval = 0
        self.woken_at = NEVER
        self.placed = 0
        self.needs_place = self.probe = self.is_counted = False

    def __lt__(self, other: Callback) -> bool:
        return self.number < other.number
