"""How fast to send over all destinations: the stagger, as a pure function of what is wanted."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from callbacks.model import Demand

#: What a steady flow has left behind is caught up within so many seconds.
CATCH_UP_S: Final = 5.0
#: So many destinations have to be tried in a minute before their failures say anything about us.
MIN_TRIED: Final = 10
#: Where our own network seems to fail the stagger is so many times longer.
SLOWDOWN: Final = 32.0


class StaggerWhy(StrEnum):
    """Why the stagger is what it is."""

    BASE = "base"
    DEMAND = "arrivals and backlog"
    HELD = "held until the backlog is gone"
    NETWORK = "all destinations that had answered fail in transport"


@dataclass(frozen=True, slots=True)
class Stagger:
    """A decision: the wanted rate in sends a second, and the time between two sends in s."""

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

    The rate covers what arrives and what waits, the latter within `drain_target_s`. What a flow
    has left behind (while its rate was being found, say) is caught up within `CATCH_UP_S`, at no
    more than half the flow on top of it. The rate is not lowered while a batch or more waits: one
    that follows a shrinking backlog would never finish it. Destinations that have not answered
    lately get a request each within `CATCH_UP_S` on top of that, and count as backlog as fast as
    their places come free: where they hang, however many wait drive nothing. When at least
    `MIN_TRIED` destinations that had answered before fail in transport, and none of them still
    answers, it is our own network, and the stagger is `SLOWDOWN` times longer.
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
    # What those need who have not answered lately comes on top: it takes nothing from the others.
    slowdown, more = 1.0, demand.unproven / CATCH_UP_S
    if demand.tried >= MIN_TRIED and demand.failing >= demand.tried:
        slowdown, more, why = SLOWDOWN, 0.0, StaggerWhy.NETWORK
    # The rate is kept within its bounds too: one that was beyond them would be held for long.
    rate = min(max(rate, 1 / max_s), 1 / min_s)
    return Stagger(rate, min(max(slowdown / (rate + more), min_s), max_s), why)


def _held(demand: Demand, batch_size: int) -> float:
    """Give the rate that is not lowered while a batch or more waits, in sends a second."""
    before = demand.rate_per_s or 0.0
    if demand.ready >= batch_size:
        return before
    # Free places are counted at one moment, so half as many may be enough.
    return min(before, 2 * demand.unproven_per_s) if demand.unproven_waiting >= batch_size else 0.0
