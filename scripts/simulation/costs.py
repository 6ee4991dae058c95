"""What each script costs Redis: how often it runs, and for how long, by shard and second.

Times are those of docs/scaling.md, for scripts one by one: with 1,000,000 waiting for 100,000
destinations an enqueue of 50 takes 1.7 ms and a claim of 100 takes 3 to 4; `begin` takes 0.09,
`settle` 0.13, a message 0.024 in all. The rest is about what a short script takes. In a drain to
few destinations, where commands go together, a callback takes less than half of their sum.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import redis

if TYPE_CHECKING:
    from scripts.simulation.events import Loop

#: ms of Redis for each call, and for each callback of it.
_MS: Final = MappingProxyType(
    {
        "enqueue": (0.02, 0.034),
        "claim": (0.1, 0.035),
        "begin": (0.09, 0.0),
        "settle": (0.13, 0.0),
        "release": (0.1, 0.0),
        "message": (0.0, 0.024),
        "reclaim": (0.05, 0.1),
        "wake": (0.05, 0.01),
        "look": (0.3, 0.0),
        "want": (0.3, 0.0),
        "demand": (0.5, 0.0),
        "load": (0.3, 0.0),
    }
)
_OTHER: Final = (0.05, 0.0)
#: The name of what belongs to no shard.
HOME: Final = -1


class Costs:
    """Counts calls. `calls[shard][verb]`; `busy_ms[shard][second]`."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.calls: defaultdict[int, Counter[str]] = defaultdict(Counter)
        self.busy_ms: defaultdict[int, defaultdict[int, float]] = defaultdict(
            lambda: defaultdict(float)
        )

    def call(self, verb: str, where: Any, items: int = 1) -> None:
        """Count a call; raises redis' error if what it is for is away."""
        if where.is_away:
            raise redis.ConnectionError("the primary is away")
        shard = where.counted_as
        once, each = _MS.get(verb, _OTHER)
        self.calls[shard][verb] += 1
        self.busy_ms[shard][self._loop.now // 1_000] += once + each * items

    def add(self, verb: str, where: Any, items: int) -> None:
        """Add what more items have cost a call that was counted."""
        _, each = _MS.get(verb, _OTHER)
        self.busy_ms[where.counted_as][self._loop.now // 1_000] += each * items
