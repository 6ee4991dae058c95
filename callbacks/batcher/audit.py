"""The audit: compares every structure with the others and with the counters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from callbacks.batcher.inspector import LITERAL, PAGE, Inspector, Where, overview
from callbacks.batcher.paging import pages
from callbacks.batcher.store import Batcher
from callbacks.model import State

_PHASES: Final = {
    State.QUEUED: frozenset({"queued"}),
    State.PROCESSING: frozenset({"claimed", "sending", "retry"}),
    State.SENT: frozenset({"sent"}),
    State.DEAD: frozenset({"dead"}),
    State.CANCELLED: frozenset({"cancelled"}),
}
#: The detail of a dead letter whose request is gone from Redis: it cannot be replayed.
REQUEST_GONE: Final = "its request is gone from Redis"
_PASSES: Final = 5


class Of(StrEnum):
    """What a finding is about."""

    CALLBACK = "callback"
    DESTINATION = "destination"
    COUNTERS = "counters"


@dataclass(frozen=True, slots=True)
class Finding:
    """One inconsistency, found in `name`; `lane` is where a callback was found."""

    of: Of
    name: str
    problem: str
    lane: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.problem}"


def audit(inspector: Inspector) -> Iterator[str]:
    """Yield one line for each inconsistency."""
    return map(str, findings(inspector))


def findings(inspector: Inspector) -> Iterator[Finding]:
    """Yield every inconsistency.

    Reads page by page, and each callback atomically, so that concurrent traffic is not reported.
    Also finds what no index names: a record, a request, a lane without its place in the ring.
    """
    seen: set[str] = set()
    for lane in list(_family(inspector, "lane:")):
        yield from _wrong(inspector, inspector.members("lane:", lane), seen, lane)
        yield from _lane_problems(inspector, lane)
    for name in ("processing", "expiry", "sent", "dead"):
        yield from _wrong(inspector, inspector.members(name), seen)
    for family in ("rec:", "cb:"):
        yield from _wrong(inspector, _family(inspector, family), seen)
    for destination in inspector.waiting():
        yield from _lane_problems(inspector, destination)
    balance = overview(inspector.scripts).balance
    if balance:
        problem = f"accepted + replayed exceed what they became by {balance}"
        yield Finding(Of.COUNTERS, "counters", problem)


def repair(batcher: Batcher) -> Iterator[tuple[Finding, str]]:
    """Repair every inconsistency; yields each finding with what was done.

    The script that repairs a finding checks it again, so workers may keep running. What is still
    missing at the end is counted as lost. Repairs shift the pages, so everything is read again
    until nothing is found.
    """
    inspector = Inspector(batcher.scripts)
    for _ in range(_PASSES):
        mended: set[str] = set()
        for finding in findings(inspector):
            yield finding, _mend(batcher, finding)
            mended.add(finding.name)
        if not mended:
            return


def _mend(batcher: Batcher, finding: Finding) -> str:
    if finding.of is Of.CALLBACK:
        return f"{batcher.repair(finding.name, finding.lane)} now"
    if finding.of is Of.DESTINATION:
        batcher.repair_ring(finding.name)
        return "its place in the ring was rebuilt"
    off = batcher.rebalance()
    return f"{abs(off):,} counted as {'lost' if off > 0 else 'found'}"


def problems(where: Where) -> Iterator[str]:
    """Yield the contradictions within one callback, as of the instant it was read."""
    homes = {
        "lane": where.lane,
        "processing": where.lease,
        "sent": where.sent,
        "dead": where.dead,
    }
    names = [name for name, home in homes.items() if home is not None]
    if len(names) != 1:
        yield f"is in {' and '.join(names) or 'no structure'}"
        return
    if not where.record and names[0] != "lane":  # before its first claim it has no record
        yield "has lost its record"
        return
    yield from _disagreements(where, names[0])


def _disagreements(where: Where, home: str) -> Iterator[str]:
    live = home in {"lane", "processing"}
    if live != (where.expiry is not None):
        yield "has no end of life" if live else "has an end of life and is final"
    if not where.kept and home != "sent" and where.record.get("e") != REQUEST_GONE:
        yield "has lost its request"
    if where.kept and home == "sent":
        yield "keeps its request although it is final"
    phase = where.record.get("s", "queued")
    if where.state is None or phase not in _PHASES[where.state]:
        yield f"is {where.state} and its record says {phase}"
    if where.lease is not None and (where.lease < 0) != (phase == "sending"):
        yield f"is {phase} and has a lease of another phase"
    if where.inflight is not None and phase != "sending":
        yield "holds a request in flight and is not sending"


def _wrong(
    inspector: Inspector, ids: Iterator[str], seen: set[str], lane: str = ""
) -> Iterator[Finding]:
    # One of two lanes that hold the same id is wrong, so in lanes no id is skipped.
    for page in pages((id for id in ids if lane or id not in seen), PAGE):
        seen.update(page)
        answers = inspector.scripts.run_many("where", [{"id": id, "lane": lane} for id in page])
        for id, answer in zip(page, answers, strict=True):
            where = Where(answer)
            if lane and where.destination != lane:
                yield Finding(Of.CALLBACK, id, f"waits in the lane of {lane}", lane)
            if not _forgotten(where):
                yield from (Finding(Of.CALLBACK, id, problem, lane) for problem in problems(where))


def _forgotten(where: Where) -> bool:
    """Tell whether a callback was deleted after its page was read."""
    homes = (where.lane, where.lease, where.sent, where.dead, where.expiry)
    return not where.record and not where.kept and all(home is None for home in homes)


def _lane_problems(inspector: Inspector, name: str) -> Iterator[Finding]:
    waits, place, late, twice = inspector.place(name)
    if waits != (place is not None):
        problem = f"{'waits and is not' if waits else 'is empty and'} in the ring"
        yield Finding(Of.DESTINATION, name, problem)
    elif late:
        yield Finding(Of.DESTINATION, name, "waits longer in the ring than it has to")
    elif twice:
        yield Finding(Of.DESTINATION, name, "is in both rings")


def _family(inspector: Inspector, name: str) -> Iterator[str]:
    prefix = inspector.keys.of(name)
    for raw in inspector.client.scan_iter(match=prefix.translate(LITERAL) + "*", count=500):
        yield raw.decode()[len(prefix) :]
