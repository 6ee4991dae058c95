"""What a soak will do, derived from its seed: bursts, faults, and the receiver's behaviour.

Pure: the same seed and sizes give the same plan. What a signal interrupts on a machine is never the
same twice.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

DESTINATIONS: Final = 50
#: This many for the default of ten minutes.
CALLBACKS_PER_MINUTE: Final = 2_000
#: Callbacks are enqueued during this share of the time, and faults happen during that.
_PRODUCING: Final = 0.75
_STRIKING: Final = 0.85
#: On average; less if every kind of fault would not happen once otherwise.
_FAULT_EVERY_S: Final = 5.0
_START_S: Final = 3.0
_BURST_EVERY_S: Final = 1.5
_DEED_EVERY_S: Final = 4.0
#: One callback in this many expires soon, so that there are dead letters.
_SHORT_LIFE: Final = 40


class FaultKind(StrEnum):
    """What is done to whom."""

    WORKER_KILL = "a worker process is SIGKILLed"
    WORKER_STOP = "a worker process is SIGSTOPped for a while"
    WORKERS_KILL = "a group of workers is SIGKILLed"
    WORKERS_TERM = "a group of workers is SIGTERMed"
    WORKERS_TERM_TWICE = "a group of workers is SIGTERMed twice"
    DISPATCHER_KILL = "the holder of the dispatch lock is SIGKILLed"
    DISPATCHER_STOP = "the holder of the dispatch lock is SIGSTOPped for a while"
    SCHEDULER_KILL = "the scheduler is SIGKILLed"
    SCHEDULER_TERM = "the scheduler is SIGTERMed"
    SCHEDULER_STOP = "the scheduler is SIGSTOPped for a while"
    REDIS_KILL = "Redis is SIGKILLed"
    REDIS_TERM = "Redis is SIGTERMed"
    REDIS_STOP = "Redis is SIGSTOPped for a while"
    REDIS_PAUSE = "Redis lets all commands wait for a while (CLIENT PAUSE ALL)"
    REDIS_PAUSE_WRITES = "Redis lets all writes wait for a while (CLIENT PAUSE WRITE)"
    PRIMARY_KILL = "a primary is SIGKILLed, and its replica promoted"
    FAILOVER = "a replica takes over on order (CLUSTER FAILOVER)"
    SLOT_MOVE = "the slot of a shard is moved to another primary while it is in use"
    NODES_RESTART = "all nodes are restarted, one after the other"
    REPLICA_STOP = "a replica is SIGSTOPped for a while"


#: Those that only a cluster can have.
CLUSTER_KINDS: Final = (
    FaultKind.PRIMARY_KILL,
    FaultKind.FAILOVER,
    FaultKind.SLOT_MOVE,
    FaultKind.NODES_RESTART,
    FaultKind.REPLICA_STOP,
)
_PROCESS_KINDS: Final = tuple(kind for kind in FaultKind if kind not in CLUSTER_KINDS)


class Faults(StrEnum):
    """Which kinds a plan has."""

    ONE_REDIS = "one Redis"
    CLUSTER = "cluster"
    CLUSTER_ONLY = "cluster only"

    @property
    def kinds(self) -> tuple[FaultKind, ...]:
        match self:
            case Faults.ONE_REDIS:
                return _PROCESS_KINDS
            case Faults.CLUSTER:
                return (*_PROCESS_KINDS, *CLUSTER_KINDS)
            case Faults.CLUSTER_ONLY:
                return CLUSTER_KINDS


class DeedKind(StrEnum):
    """What the operator does."""

    CANCEL = "the operator cancels"
    PAUSE_ALL = "the operator pauses everything"
    PAUSE_ONE = "the operator pauses a destination"
    REPLAY = "the operator replays dead letters"
    PURGE = "the operator purges dead letters"


#: How long it stays stopped, or away, in seconds. A worker that sleeps past the lease of an
#: attempt (8 s here) or of the dispatch lock (2 s) wakes up to find its work given to others.
_LENGTHS: Final = {
    FaultKind.WORKER_STOP: (0.5, 12.0),
    FaultKind.DISPATCHER_STOP: (1.0, 14.0),
    FaultKind.SCHEDULER_STOP: (1.0, 10.0),
    FaultKind.WORKERS_TERM_TWICE: (0.01, 0.5),
    FaultKind.REDIS_KILL: (0.0, 3.0),
    FaultKind.REDIS_TERM: (0.0, 3.0),
    FaultKind.REDIS_STOP: (0.3, 8.0),
    FaultKind.REDIS_PAUSE: (0.5, 6.0),
    FaultKind.REDIS_PAUSE_WRITES: (0.5, 6.0),
    FaultKind.PRIMARY_KILL: (0.0, 3.0),  # after the promotion
    FaultKind.REPLICA_STOP: (0.5, 4.0),
}
#: How long a pause lasts. A long one of everything would only delay the soak.
_PAUSES: Final = {DeedKind.PAUSE_ALL: (0.5, 3.0), DeedKind.PAUSE_ONE: (1.0, 6.0)}
#: Cancels can come at the most different moments, so they are the most frequent.
_OFTEN_DONE: Final = (DeedKind.CANCEL, DeedKind.CANCEL, DeedKind.REPLAY)
#: Kinds that come more than once a round.
_OFTEN: Final = (FaultKind.WORKER_KILL, FaultKind.DISPATCHER_KILL, FaultKind.REDIS_KILL)


class Mood(StrEnum):
    """How the receiver answers one request."""

    OK = "200"
    BUSY = "503"
    RESET = "reset"
    SILENT = "timeout"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault, in seconds after the start. `pick` in [0, 1) chooses among victims."""

    at_s: float
    kind: FaultKind
    length_s: float
    pick: float


@dataclass(frozen=True, slots=True)
class Deed:
    """One operation. `pick` in [0, 1) chooses its target."""

    at_s: float
    kind: DeedKind
    length_s: float
    pick: float


@dataclass(frozen=True, slots=True)
class Burst:
    """Callbacks number `first` to `first + size - 1`, enqueued together or one by one."""

    at_s: float
    first: int
    size: int
    together: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole plan."""

    seed: int
    count: int
    bursts: tuple[Burst, ...]
    faults: tuple[Fault, ...]
    deeds: tuple[Deed, ...]


def make_plan(
    seed: int, *, minutes: float, count: int | None = None, which: Faults = Faults.ONE_REDIS
) -> Plan:
    """Spread `count` callbacks and the faults that fit over `minutes`."""
    total_s = minutes * 60
    if count is None:
        count = max(1, round(CALLBACKS_PER_MINUTE * minutes))
    chance = random.Random(seed)
    return Plan(
        seed=seed,
        count=count,
        bursts=tuple(_bursts(chance, count, total_s * _PRODUCING)),
        faults=tuple(_faults(chance, total_s * _STRIKING, which.kinds)),
        deeds=tuple(_deeds(chance, total_s * _STRIKING)),
    )


def _bursts(chance: random.Random, count: int, over_s: float) -> Iterator[Burst]:
    """Cut the callbacks at random places: many small bursts and a few large ones."""
    pieces = max(1, min(count, round(over_s / _BURST_EVERY_S)))
    cuts = sorted(chance.sample(range(1, count), pieces - 1)) if pieces > 1 else []
    times = sorted(chance.uniform(0, over_s) for _ in range(pieces))
    for at_s, first, end in zip(times, [0, *cuts], [*cuts, count], strict=True):
        yield Burst(at_s, first, end - first, chance.random() < 0.5)


def _faults(chance: random.Random, until_s: float, kinds: Sequence[FaultKind]) -> Iterator[Fault]:
    """Deal the kinds in shuffled rounds, so that no kind depends on luck."""
    number = max(len(kinds), round((until_s - _START_S) / _FAULT_EVERY_S))
    often = [kind for kind in _OFTEN if kind in kinds]
    deck: list[FaultKind] = []
    while len(deck) < number:
        more = [*kinds, *often] if deck else list(kinds)  # each kind once at least
        chance.shuffle(more)
        deck += more
    times = sorted(chance.uniform(_START_S, max(_START_S, until_s)) for _ in range(number))
    for at_s, kind in zip(times, deck[:number], strict=True):
        low, high = _LENGTHS.get(kind, (0.0, 0.0))
        yield Fault(at_s, kind, chance.uniform(low, high), chance.random())


def _deeds(chance: random.Random, until_s: float) -> Iterator[Deed]:
    """Deal them like the faults, starting with all kinds."""
    number = max(len(DeedKind), round((until_s - _START_S) / _DEED_EVERY_S))
    deck: list[DeedKind] = []
    while len(deck) < number:
        more = [*DeedKind, *_OFTEN_DONE] if deck else list(DeedKind)
        chance.shuffle(more)
        deck += more
    times = sorted(chance.uniform(_START_S, max(_START_S, until_s)) for _ in range(number))
    for at_s, kind in zip(times, deck[:number], strict=True):
        low, high = _PAUSES.get(kind, (0.0, 0.0))
        yield Deed(at_s, kind, chance.uniform(low, high), chance.random())


def expires_in(number: int) -> float | None:
    """After how many seconds it is dead if it has not been sent."""
    return 1.0 + number % 7 if number % _SHORT_LIFE == 0 else None


def name(number: int) -> str:
    """The id of a callback."""
    return f"soak-{number:06d}"


def lane(number: int) -> str:
    """Its destination's name; their shares are unequal."""
    return f"customer-{min(number % DESTINATIONS, number // 3 % DESTINATIONS)}"


def mood(seed: int, id: str, nth: int) -> tuple[Mood, float]:
    """How the nth request for a callback is answered, and after how many seconds."""
    digest = hashlib.sha256(f"{seed} {id} {nth}".encode()).digest()
    share, wait = (int.from_bytes(part) / 2**32 for part in (digest[:4], digest[4:8]))
    answer_s = 0.02 + 0.2 * wait
    if share < 0.025:
        return Mood.BUSY, answer_s
    if share < 0.04:
        return Mood.RESET, answer_s
    if share < 0.05:
        return Mood.SILENT, 0.0
    return Mood.OK, answer_s
