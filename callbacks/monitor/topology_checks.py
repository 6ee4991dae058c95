"""Checks whether the Sentinels, or the nodes of a cluster, can keep callbacks going. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from callbacks.monitor.checks import Check, CheckStatus, failure, ok, warning
from callbacks.text import counted, many

_SLOTS: Final = 16_384
_ORDER: Final = (CheckStatus.OK, CheckStatus.WARNING, CheckStatus.FAILURE)


@dataclass(frozen=True, slots=True)
class SentinelFacts:
    """What the Sentinels in the URL say: how many answer, and what those know of the master.

    `known`: how many name a primary that is up; `others`: Sentinels beside the one that was asked;
    `replicas`: those that could take over now.
    """

    given: int
    answering: int
    known: int
    primary: str = ""
    others: int = 0
    quorum: int = 0
    replicas: int = 0


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """What the nodes of a cluster say of it.

    `alone`: primaries without a replica; `slots`: how many of the slots have a primary; `all_stop`:
    where one slot has none, no node serves any.
    """

    primaries: tuple[str, ...]
    alone: tuple[str, ...]
    slots: int
    all_stop: bool = False


def sentinels(facts: SentinelFacts) -> Check:
    """Whether the Sentinels could bring about a failover, and there is a server for it."""
    asked = f"{facts.answering} of {many(facts.given, 'Sentinel')} in REDIS_URL answer"
    if not facts.known:
        return failure(
            "sentinel",
            f"{asked}, none names a primary that is up",
            "see redis-cli -p 26379 SENTINEL MASTERS: is this the right MASTER in REDIS_URL?",
        )
    found = f"{asked}; the primary is {facts.primary}, {many(facts.replicas, 'replica')}"
    majority = (facts.others + 1) // 2 + 1
    if not facts.replicas:
        return warning("sentinel", f"{found}: nothing could take over", "add a replica")
    if facts.answering < facts.given:
        return warning("sentinel", found, "start the Sentinels that do not answer")
    if facts.others + 1 < 3:
        return warning(
            "sentinel",
            f"{found}; {many(facts.others + 1, 'Sentinel')} in all",
            f"run at least three: for a failover a majority ({majority}) must be left",
        )
    return ok("sentinel", f"{found}, {facts.others + 1} Sentinels, quorum {facts.quorum}")


def cluster(facts: ClusterFacts) -> Check:
    """Whether every slot has a primary, and every primary a replica."""
    found = counted(len(facts.primaries), "primary", "primaries")
    if facts.slots < _SLOTS:
        return failure(
            "cluster",
            f"{found}; {_SLOTS - facts.slots:,} of {_SLOTS:,} slots have none",
            "redis-cli --cluster fix <host>:<port>",
        )
    if facts.alone:
        return warning(
            "cluster",
            f"{found}; nothing could take over from {', '.join(facts.alone)}",
            "add a replica to each (redis-cli --cluster add-node ... --cluster-slave)",
        )
    if facts.all_stop:
        return warning(
            "cluster",
            f"{found}, each with a replica; where both are away, the others stop, too",
            "CONFIG SET cluster-require-full-coverage no on every node, and in its file",
        )
    return ok("cluster", f"{found}, each with a replica")


def worst_of(judged: Mapping[str, list[Check]]) -> list[Check]:
    """Merge the checks of several servers, by their addresses: of each check the worst.

    What is wrong comes with the servers that it is wrong with, unless there is only one.
    """
    merged: list[Check] = []
    for checks in zip(*judged.values(), strict=True):
        by_address = dict(zip(judged, checks, strict=True))
        worst = max(by_address.values(), key=lambda check: _ORDER.index(check.verdict))
        where = [at for at, check in by_address.items() if check.verdict is worst.verdict]
        if worst.verdict is not CheckStatus.OK and len(judged) > 1:
            worst = replace(worst, found=f"{', '.join(where)}: {worst.found}")
        merged.append(worst)
    return merged
