"""What the demo sends, and whether the numbers add up at the end. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Final

from callbacks.batcher.inspector import Overview

#: The destinations of ten callbacks in a row; repeated.
TURNS: Final = ("one", "two", "three", "flaky", "one", "dead", "two", "three", "flaky", "one")
RETRIES: Final = 2
RETRY_INCREMENT_S: Final = 2.0
#: How long all attempts together should take; the pace follows from their number.
_LENGTH_S: Final = 30.0
_PACE_S: Final = (0.005, 0.1)


# The plan


@dataclass(frozen=True, slots=True)
class Plan:
    """The callbacks to send: (id, name of the destination) for each."""

    callbacks: tuple[tuple[str, str], ...]

    def ids(self, name: str) -> frozenset[str]:
        """The callbacks of one destination."""
        return frozenset(id for id, destination in self.callbacks if destination == name)

    @property
    def attempts(self) -> int:
        """How many attempts there will be: two for a flaky callback, all for a dead one."""
        flaky, dead = len(self.ids("flaky")), len(self.ids("dead"))
        return len(self.callbacks) + flaky + RETRIES * dead

    @property
    def pace_s(self) -> float:
        """The stagger with which the demo takes about half a minute."""
        low, high = _PACE_S
        return round(min(high, max(low, _LENGTH_S / self.attempts)), 3)


def plan(count: int) -> Plan:
    """Distribute `count` callbacks over the destinations, in turns."""
    return Plan(tuple((f"demo-{n + 1:05}", TURNS[n % len(TURNS)]) for n in range(count)))


def environment(plan: Plan, redis_url: str, secret: str) -> dict[str, str]:
    """The demo's settings: quick retries, a fixed pace, loopback addresses allowed."""
    return {
        "REDIS_URL": redis_url,
        "CALLBACKS_SEND_INTERVAL": f"{plan.pace_s:g}",
        "CALLBACKS_DESTINATION_INTERVAL": f"{plan.pace_s:g}",
        "CALLBACKS_ADAPTIVE": "false",
        "CALLBACKS_BREAKER_FAILURES": "0",
        "CALLBACKS_MAX_DELAY": "1",
        "CALLBACKS_CHECK_INTERVAL": "1",
        "CALLBACKS_MAX_RETRIES": str(RETRIES),
        "CALLBACKS_RETRY_INCREMENT": f"{RETRY_INCREMENT_S:g}",
        "CALLBACKS_ALLOWED_NETWORKS": "127.0.0.0/8",
        "CALLBACKS_ENVIRONMENT": "demo",
        "CALLBACKS_SECRET": secret,
    }


# The sums


@dataclass(frozen=True, slots=True)
class Delivery:
    """One request that a receiver got; `at_s` is on the monotonic clock."""

    id: str
    at_s: float
    ok: bool
    signed: bool


@dataclass(frozen=True, slots=True)
class Summary:
    """The demo's results. Gaps are the 5th, 50th and 95th percentile, in seconds."""

    count: int
    delivered: int
    retried: int
    dead: int
    repeats: int
    requests: int
    signed: int
    gaps: tuple[float, float, float] | None
    seconds: float
    problems: tuple[str, ...]
    wrong: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """The summary for programs."""
        return asdict(self)


def reckon(
    plan: Plan,
    books: Overview,
    dead_ids: frozenset[str],
    deliveries: Sequence[Delivery],
    problems: Sequence[str],
    *,
    seconds: float,
) -> Summary:
    """Compare what the receivers got with what Redis has counted; `wrong` is what differs."""
    got = Counter(delivery.id for delivery in deliveries if delivery.ok)
    totals, count = books.totals, len(plan.callbacks)
    signed = sum(delivery.signed for delivery in deliveries)
    live = {id for id, _ in plan.callbacks} - plan.ids("dead")
    checks = {
        f"{totals['accepted']} accepted of {count}": totals["accepted"] == count,
        f"{totals['sent']} sent and {totals['dead']} dead are not {count}": (
            totals["sent"] + totals["dead"] == count
        ),
        f"{len(got)} ids arrived and {totals['sent']} are sent": len(got) == totals["sent"],
        "the dead letters are not those of the dead destination": dead_ids == plan.ids("dead"),
        "what arrived is not what was sent to the live destinations": got.keys() == live,
        f"{len(deliveries) - signed} requests had no valid signature": signed == len(deliveries),
        "the books do not balance": not problems,
    }
    return Summary(
        count=count,
        delivered=totals["sent"],
        retried=totals["retried"],
        dead=totals["dead"],
        repeats=sum(got.values()) - len(got),
        requests=len(deliveries),
        signed=signed,
        gaps=_gaps([delivery.at_s for delivery in deliveries]),
        seconds=round(seconds, 1),
        problems=tuple(problems),
        wrong=tuple(what for what, right in checks.items() if not right),
    )


def _gaps(moments_s: Sequence[float]) -> tuple[float, float, float] | None:
    """Percentiles 5, 50 and 95 (nearest rank) of the time from one arrival to the next."""
    ordered = sorted(moments_s)
    gaps = sorted(after - before for before, after in pairwise(ordered))
    if not gaps:
        return None
    low, middle, high = (gaps[-(-len(gaps) * percent // 100) - 1] for percent in (5, 50, 95))
    return round(low, 3), round(middle, 3), round(high, 3)
