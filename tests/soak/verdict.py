"""Was every promise kept? Pure: compares what the producer, the receiver and the records say.

An attempt is a number in a callback's history, and each request has the number of its attempt. So
every request too many can be named: the history says how its attempt ended.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from callbacks.batcher.inspector import Status
from callbacks.batcher.routes import shard_of
from callbacks.model import Cancelled, Reason, State
from callbacks.policy.retry import MAX_THROTTLED
from tests.soak.plan import Mood

RETRIES: Final = 2
CRASHES: Final = 3
_FINAL: Final = frozenset({State.SENT, State.DEAD, State.CANCELLED})
#: So long after its request an attempt may be settled: its lease.
_SETTLED_S: Final = 8.0
#: Up to this many findings of one kind are listed one by one.
_NAMED: Final = 5


@dataclass(frozen=True, slots=True)
class Request:
    """One request at the receiver, and what it answered."""

    id: str
    attempt: int
    said: Mood
    at_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Risk:
    """From when to when shards may have lost the last writes that nobody waits for.

    A primary was killed or stopped, and its replica promoted without them. Times are of
    `time.monotonic`.
    """

    from_s: float
    until_s: float
    shards: frozenset[int]

    def has(self, request: Request, shard: int) -> bool:
        """Whether the start or the end of an attempt may be among what was lost."""
        since = self.from_s - _SETTLED_S
        return shard in self.shards and since <= request.at_s <= self.until_s


@dataclass(frozen=True, slots=True)
class Record:
    """A callback as recorded at the end, with what `Status` does not have."""

    status: Status
    throttled: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """The answer to a cancel, and the number of attempts right after it."""

    said: Cancelled
    attempts: int


@dataclass(frozen=True, slots=True)
class Seen:
    """All the evidence. `accepted`: when (s since 1970) the enqueue of an id returned.

    `lives`: a callback's record before each of its replays; `purged`: before it was purged;
    `cancels`: the answer to its last cancel, unless it was replayed afterwards. `risks`: of its
    `shards` shards.
    """

    accepted: Mapping[str, float]
    requests: Sequence[Request]
    records: Mapping[str, Record]
    totals: Mapping[str, int]
    waiting: int
    audit: Sequence[str] = ()
    troubles: Sequence[str] = ()
    lives: Mapping[str, Sequence[Record]] = field(default_factory=dict)
    purged: Mapping[str, Record] = field(default_factory=dict)
    cancels: Mapping[str, Cancel] = field(default_factory=dict)
    risks: Sequence[Risk] = ()
    shards: int = 1

    def may_repeat(self, record: Record, requests: Sequence[Request]) -> bool:
        """Whether what is known of an attempt may have been lost with a primary."""
        shard = shard_of(record.status.destination, self.shards)
        return any(risk.has(request, shard) for risk in self.risks for request in requests)

    @property
    def all_records(self) -> dict[str, Record]:
        """The final record of every callback, also of purged ones."""
        return {**self.purged, **self.records}


class Repeat(StrEnum):
    """Why a callback was sent again although its receiver had answered 2xx."""

    CRASHED = "its 2xx was never settled: the sender was killed, or stopped past its lease"
    FAILED_OVER = "its attempt was lost with a primary: nobody waits for those"
    TOO_LATE = "its 2xx came after the sender's deadline, or the sender was stopped meanwhile"


@dataclass(slots=True)
class Verdict:
    """What is wrong, by kind, and the figures."""

    wrong: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    repeats: Counter[Repeat] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    died: Counter[str] = field(default_factory=Counter)
    dead_after_2xx: int = 0
    crashes: int = 0
    most_requests: int = 0
    took_s: list[float] = field(default_factory=list)

    def lines(self) -> list[str]:
        """What is wrong, one line each; of a frequent kind the first few and the count."""
        lines = []
        for kind, cases in self.wrong.items():
            lines += [f"{kind}: {case}" for case in cases[:_NAMED]]
            if len(cases) > _NAMED:
                lines.append(f"{kind}: and {len(cases) - _NAMED} more")
        return lines


def judge(seen: Seen) -> Verdict:
    """Compare the three sources, id by id, and then their sums."""
    verdict, records = Verdict(), seen.all_records
    by_id: dict[str, list[Request]] = defaultdict(list)
    for request in seen.requests:
        by_id[request.id].append(request)
    for id, accepted_s in seen.accepted.items():
        record = records.get(id)
        if record is None:
            verdict.wrong["lost"].append(f"{id} was accepted and is in no state")
            continue
        _count(verdict, record, by_id[id], accepted_s)
        for kind, problem in _all_problems(seen, id, record, by_id[id], verdict):
            verdict.wrong[kind].append(f"{id} {problem}")
    for id in by_id.keys() - seen.accepted.keys():
        verdict.wrong["stranger"].append(f"{id} was sent and never accepted")
    for kind, problem in _imbalance(seen):
        verdict.wrong[kind].append(problem)
    return verdict


def _all_problems(
    seen: Seen, id: str, record: Record, requests: Sequence[Request], verdict: Verdict
) -> Iterator[tuple[str, str]]:
    known = len(requests)
    yield from _state_problems(record, requests)
    repeats = list(_repeat_problems(record.status, requests, verdict.repeats))
    if seen.may_repeat(record, requests):
        verdict.repeats[Repeat.FAILED_OVER] += bool(repeats)
        known = min(known, record.status.attempts)
    else:
        yield from repeats
    yield from _budget_problems(record, known, seen.lives.get(id, ()))
    yield from _cancel_problems(record, seen.cancels.get(id))


def _count(
    verdict: Verdict, record: Record, requests: Sequence[Request], accepted_s: float
) -> None:
    status = record.status
    verdict.states[status.state.value] += 1
    verdict.crashes += status.crashes
    verdict.most_requests = max(verdict.most_requests, len(requests))
    if status.ended_at is not None:
        verdict.took_s.append(status.ended_at - accepted_s)
    if status.state is State.DEAD:
        verdict.died[str(status.reason)] += 1
        verdict.dead_after_2xx += any(request.said is Mood.OK for request in requests)


def _state_problems(record: Record, requests: Sequence[Request]) -> Iterator[tuple[str, str]]:
    status = record.status
    if status.state not in _FINAL:
        yield "unsettled", f"is {status.state} ({status.phase})"
    if status.state is State.DEAD and not status.reason:
        yield "no reason", "is dead without one"
    yield from _outcome_problems(status, requests)


def _outcome_problems(status: Status, requests: Sequence[Request]) -> Iterator[tuple[str, str]]:
    """Every recorded answer was given, and everything `sent` was received."""
    said = {(request.attempt, request.said) for request in requests}
    for entry in status.history:
        if entry.status is not None and (entry.attempt, Mood(str(entry.status))) not in said:
            yield "never said", f"has a {entry.status} in attempt {entry.attempt} that nobody gave"
    if status.state is not State.SENT:
        return
    last = status.history[-1] if status.history else None
    if last is None or last.outcome != "sent" or (last.attempt, Mood.OK) not in said:
        yield "not received", "is sent, and its receiver gave no 2xx to its last attempt"


def _repeat_problems(
    status: Status, requests: Sequence[Request], repeats: Counter[Repeat]
) -> Iterator[tuple[str, str]]:
    """Every request has its own attempt; one more after a 2xx needs a known cause."""
    entries = {entry.attempt: entry for entry in status.history}
    for attempt, times in Counter(request.attempt for request in requests).items():
        if times > 1:
            yield "unexplained repeat", f"attempt {attempt} made {times} requests"
    for request in requests:
        entry = entries.get(request.attempt)
        if entry is None:
            yield "unexplained repeat", f"attempt {request.attempt} is not in its history"
        elif request.said is not Mood.OK or entry.outcome == "sent":
            continue
        elif entry.reason == Reason.CRASHED:
            repeats[Repeat.CRASHED] += 1
        elif entry.reason == Reason.TIMEOUT:
            repeats[Repeat.TOO_LATE] += 1
        else:
            yield (
                "unexplained repeat",
                f"attempt {request.attempt} got a 2xx and ended as {entry.reason}",
            )


def _cancel_problems(record: Record, cancel: Cancel | None) -> Iterator[tuple[str, str]]:
    """A cancel is final, and nothing else cancels."""
    state, attempts = record.status.state, record.status.attempts
    in_time = cancel is not None and cancel.said is not Cancelled.FINAL
    if state is State.CANCELLED and not in_time:
        yield "cancelled", "is cancelled, and nobody did that"
    if cancel is None or not in_time:
        return
    if cancel.said is Cancelled.CANCELLED and state is not State.CANCELLED:
        yield "not cancelled", f"was cancelled, and is {state}"
    if attempts != cancel.attempts:
        yield "not cancelled", f"had {cancel.attempts} attempts at its cancel, and {attempts} now"


def _used(record: Record) -> int:
    return 1 + record.status.retries + record.throttled + record.status.crashes


def _budget_problems(
    record: Record, requests: int, lives: Sequence[Record]
) -> Iterator[tuple[str, str]]:
    """Requests <= 1 + retries + throttled + crashes in each life, and each within its limit."""
    status, throttled = record.status, record.throttled
    used = _used(record) + sum(map(_used, lives))
    if not requests <= status.attempts <= used:
        yield "over budget", f"{requests} requests, {status.attempts} attempts, {used} explained"
    if status.retries > RETRIES or throttled > MAX_THROTTLED or status.crashes > CRASHES:
        spent = f"{status.retries} retries, {throttled} throttled, {status.crashes} crashes"
        yield "over budget", f"used up {spent}"


def _imbalance(seen: Seen) -> Iterator[tuple[str, str]]:
    """Sums of the records against the counters."""
    yield from (("audit", line) for line in seen.audit)
    yield from (("trouble", line) for line in seen.troubles)
    for id in seen.purged.keys() & seen.records.keys():
        yield "not purged", f"{id} was purged and is still known"
    if seen.waiting:
        yield "unsettled", f"{seen.waiting} are still queued or processing"
    records = list(seen.all_records.values())
    lives = [life for lives in seen.lives.values() for life in lives]
    spent = [*records, *lives]
    states = Counter(record.status.state for record in records)
    sums = {
        "accepted": len(seen.accepted),
        "sent": states[State.SENT],
        "dead": states[State.DEAD] + len(lives),
        "replayed": len(lives),
        "purged": len(seen.purged),
        "cancelled": states[State.CANCELLED],
        "retried": sum(record.status.retries for record in spent),
        "throttled": sum(record.throttled for record in spent),
    }
    for counter, expected in sums.items():
        if seen.totals[counter] != expected:
            yield "unbalanced", f"{counter} is {seen.totals[counter]}, the records say {expected}"
    made, given_up = sum(record.status.attempts for record in records), _given_up(seen, spent)
    if not made <= seen.totals["attempts"] <= made + given_up:
        problem = f"{seen.totals['attempts']}, the records say {made} and {given_up} at most"
        yield "unbalanced", f"attempts is {problem}"


def _given_up(seen: Seen, spent: Sequence[Record]) -> int:
    """How many attempts may have been counted but not made.

    A process that was stopped before its request gives its attempt up, and makes it later without
    counting it again, unless a cancel, an expiry or a lost lease comes in between.
    """
    statuses = [record.status for record in spent]
    ended = sum(s.state is State.CANCELLED or s.reason == Reason.EXPIRED for s in statuses)
    return ended + seen.totals["recovered"] - sum(s.crashes for s in statuses)
