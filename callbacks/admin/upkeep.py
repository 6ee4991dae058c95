"""Upkeep: take back what is stuck, and compare everything in Redis with everything else."""

from __future__ import annotations

import random
from collections.abc import Callable

from callbacks.admin.filters import ALL, journal_entry
from callbacks.admin.values import Audit, Cleanup, Problem
from callbacks.batcher import audit as auditing
from callbacks.batcher.errors import as_documented
from callbacks.batcher.inspector import Inspector
from callbacks.batcher.shards import Shards
from callbacks.model import Recovered
from callbacks.runtime import runtime
from callbacks.worker.duties import expire_once, recover_once


@as_documented()
def cleanup(*, expired: bool = False) -> Cleanup:
    """Take back callbacks past their lease now, instead of at a worker's next tick.

    `expired`: also end what is too old, even if a jump of Redis' clock has suspended that.
    """
    batcher = runtime().batcher
    ended = _expire(batcher) if expired else None
    recovered = dead = cancelled = 0
    for shard in batcher.shards:
        while (done := recover_once(shard, chance=_chance())) != Recovered(0, 0, 0):
            recovered += done.recovered
            dead += done.dead
            cancelled += done.cancelled
    return Cleanup(recovered, dead, cancelled, ended)


def _expire(batcher: Shards) -> int:
    batcher.unhold()
    total = 0
    for shard in batcher.shards:
        while some := expire_once(shard):
            total += some
    return total


def _chance() -> float:
    return random.random()  # noqa: S311 - spreads load


@as_documented()
def audit(
    *,
    repair: bool = False,
    tell: Callable[[Problem], object] = lambda _problem: None,
    why: str = "",
    who: str | None = None,
) -> Audit:
    """Compare all structures in Redis with each other and with the totals.

    Reads everything: two minutes for a million callbacks. `repair` puts right what can be put
    right, drops nothing that could still be sent, and may run while workers are running. `tell` is
    called with each problem as it is found. `why` and `who` are for the journal.
    """
    batcher = runtime().batcher
    repaired = []
    for finding, done in auditing.repair(batcher) if repair else ():
        repaired.append(Problem(finding.name, finding.problem, done))
        tell(repaired[-1])
    if repaired:
        batcher.journal(journal_entry("repair", ALL, who=who, why=why, count=len(repaired)))
    problems = []
    for finding in auditing.findings(Inspector(batcher.scripts)):
        problems.append(Problem(finding.name, finding.problem))
        tell(problems[-1])
    return Audit(tuple(problems), tuple(repaired))
