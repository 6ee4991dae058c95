"""How fast to send, over all destinations: the stagger, as a pure function of demand."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from callbacks.model import Demand

#: The time in which a backlog left by a steady flow should be gone.
CATCH_UP_S: Final = 5.0
#: The fewest destinations tried within a minute from which a failure of our network is concluded.
MIN_TRIED: Final = 10
#: The factor by which the stagger grows when our own network seems to fail.
SLOWDOWN: Final = 32.0


class StaggerWhy(StrEnum):
    """Why the stagger is what it is."""

    BASE = "base"
    DEMAND = "arrivals and backlog"
    HELD = "held until the backlog is gone"
    NETWORK = "all destinations that had answered fail in transport"


@dataclass(frozen=True, slots=True)
class Stagger:
    """A decision: the rate in sends per second, and the time between two sends in seconds."""

    rate_per_s: float
    interval_s: float
    why: StaggerWhy


def next_stagger(
    demand: Demand,
    *,
    base_s: float,
    min_s: float,
    max_s: float,
    drain_target_s: float,
    batch_size: int,
) -> Stagger:
    """Decide the stagger from arrivals and backlog.

    The rate covers arrivals, and drains the backlog within `drain_target_s`. A backlog left by a
    steady flow (e.g. before its rate was known) is drained within `CATCH_UP_S`, by at most half
    the flow's rate on top. The rate is not lowered while a batch or more is waiting: a rate that
    follows a shrinking backlog would never drain it. Unproven destinations get one request each
    within `CATCH_UP_S` on top of that, and count as backlog only as fast as their places come
    free, so those that hang do not raise the rate. If at least `MIN_TRIED` destinations that had
    answered before fail in transport, and none of them still answers, our own network is at
    fault, and the stagger is `SLOWDOWN` times longer.
    """
    base = 1 / base_s
    flow = demand.accepted_per_s
    backlog = max(demand.ready / drain_target_s, min(demand.ready / CATCH_UP_S, flow / 2))
    backlog += min(demand.unproven_waiting / drain_target_s, demand.unproven_per_s)
    wanted = max(base, flow + backlog)
    rate, why = wanted, StaggerWhy.BASE if wanted == base else StaggerWhy.DEMAND
    held = _held(demand, batch_size)
    if held > wanted:
        rate, why = held, StaggerWhy.HELD
    # The requests to unproven destinations come on top, so they take nothing from the others.
    slowdown, more = 1.0, demand.unproven / CATCH_UP_S
    if demand.tried >= MIN_TRIED and demand.failing >= demand.tried:
        slowdown, more, why = SLOWDOWN, 0.0, StaggerWhy.NETWORK
    # The rate is clamped too: one beyond its bounds would be held for long.
    rate = min(max(rate, 1 / max_s), 1 / min_s)
    return Stagger(rate, min(max(slowdown / (rate + more), min_s), max_s), why)


def _held(demand: Demand, batch_size: int) -> float:
    """The rate, in sends per second, that is not lowered while a batch or more is waiting."""
    before = demand.rate_per_s or 0.0
    if demand.ready >= batch_size:
        return before
    # Free places are counted at one instant only, so allow for twice as many.
    return min(before, 2 * demand.unproven_per_s) if demand.unproven_waiting >= batch_size else 0.0
