"""The audit: compares every structure with the others and with the counters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import chain
from typing import Final

from callbacks.batcher.inspector import LITERAL, PAGE, Inspector, Where, overview
from callbacks.batcher.paging import pages
from callbacks.batcher.routes import own_shard, shard_of
from callbacks.batcher.scripts import raise_first
from callbacks.batcher.shards import Shards
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
    RESERVATION = "reservation"
    SHARD = "shard"


@dataclass(frozen=True, slots=True)
class Finding:
    """One inconsistency, found in `name` of `shard`; `lane` is where a callback was found."""

    of: Of
    name: str
    problem: str
    lane: str = ""
    shard: int = 0

    def __str__(self) -> str:
        return f"{self.name}: {self.problem}"


def audit(inspector: Inspector) -> Iterator[str]:
    """Yield one line for each inconsistency."""
    return map(str, findings(inspector))


def findings(inspector: Inspector) -> Iterator[Finding]:
    """Yield every inconsistency.

    Reads page by page, and each callback atomically, so that concurrent traffic is not reported.
    Also finds what no index names: a record, a request, a lane without its place in the ring; and
    with several shards, what is in the wrong one, and wrong reservations.
    """
    shards = inspector.scripts.shards
    for number, shard in enumerate(shards):
        for finding in _findings(Inspector(shard)):
            yield replace(finding, shard=number)
    if len(shards) > 1:
        yield from _misplaced(inspector)


def _findings(inspector: Inspector) -> Iterator[Finding]:
    """Yield the inconsistencies within one shard."""
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


def _misplaced(inspector: Inspector) -> Iterator[Finding]:
    """Yield what is in another shard than it belongs to, and reservations that are wrong."""
    for number, shard in enumerate(inspector.scripts.shards):
        one = Inspector(shard)
        yield from _strange_lanes(inspector, number, one)
        yield from _empty_reservations(inspector, one)
        yield from _unreserved(inspector, number, one)


def _strange_lanes(inspector: Inspector, number: int, one: Inspector) -> Iterator[Finding]:
    for name in _family(one, "lane:"):
        right = shard_of(name, len(inspector.scripts.shards))
        if right != number:
            problem = f"waits in shard {number} and belongs to shard {right}"
            yield Finding(Of.SHARD, name, problem, shard=number)


def _empty_reservations(inspector: Inspector, one: Inspector) -> Iterator[Finding]:
    for page in pages(_family(one, "at:"), PAGE):
        for id, there in zip(page, inspector.reserved(page), strict=True):
            if there is not None and not inspector.scripts.shards[there].has(id):
                problem = f"is reserved for shard {there}, which has no such callback"
                yield Finding(Of.RESERVATION, id, problem, shard=there)


def _unreserved(inspector: Inspector, number: int, one: Inspector) -> Iterator[Finding]:
    count = len(inspector.scripts.shards)
    known = chain.from_iterable(one.members(name) for name in ("expiry", "sent", "dead"))
    for page in pages((id for id in known if own_shard(id, count) != number), PAGE):
        for id, there in zip(page, inspector.reserved(page), strict=True):
            if there != number and one.scripts.home.has(id):
                told = "not reserved" if there is None else f"reserved for shard {there}"
                problem = f"is in shard {number} and {told}"
                yield Finding(Of.RESERVATION, id, problem, shard=number)


def repair(batcher: Batcher | Shards) -> Iterator[tuple[Finding, str]]:
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
            if finding.of is not Of.SHARD:
                mended.add(finding.name)
        if not mended:
            return


def _mend(whole: Batcher | Shards, finding: Finding) -> str:
    batcher = whole.shards[finding.shard] if isinstance(whole, Shards) else whole
    if finding.of is Of.SHARD:
        return "left as it is: it is sent from there"
    if finding.of is Of.RESERVATION and isinstance(whole, Shards):
        return whole.mend_reservation(finding.name, finding.shard)
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
        calls = [{"id": id, "lane": lane} for id in page]
        answers = raise_first(inspector.scripts.home.run_many("where", calls))
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
    """The members of a family of keys of one shard."""
    prefix = inspector.scripts.home.keys.of(name)
    for raw in inspector.scripts.home.client.scan_iter(
        match=prefix.translate(LITERAL) + "*", count=500
    ):
        yield raw.decode()[len(prefix) :]
