"""How long a call takes for its caller, and how long Redis does nothing else meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from redis import Redis

_T = TypeVar("_T")


@dataclass
class Cost:
    """Of one verb: each call's ms for its caller, and the longest command of it in Redis."""

    caller_ms: list[float] = field(default_factory=list)
    longest_ms: float = 0.0
    longest: str = ""


class Gauge:
    """Costs by name, in the order of their first call; Redis' own `SLOWLOG` tells the second."""

    def __init__(self, client: Redis) -> None:
        self.client = client
        self.costs: dict[str, Cost] = {}
        client.config_set("slowlog-log-slower-than", 50)
        client.config_set("slowlog-max-len", 1_000)

    def measure(self, name: str, call: Callable[[], _T]) -> _T:
        """Call it and note what it cost."""
        cost = self.costs.setdefault(name, Cost())
        self.client.slowlog_reset()
        began = time.perf_counter()
        result = call()
        cost.caller_ms.append((time.perf_counter() - began) * 1000)
        self.note_slowest(cost)
        return result

    def note_slowest(self, cost: Cost) -> None:
        for entry in self.client.slowlog_get(1_000):
            if entry["duration"] / 1000 > cost.longest_ms:
                cost.longest_ms = entry["duration"] / 1000
                cost.longest = entry["command"][:24].decode(errors="replace")
