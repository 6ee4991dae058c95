"""How long a call takes for its caller, and how long it blocks Redis."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from redis import Redis

_T = TypeVar("_T")

#: From how many microseconds on Redis logs a command, and how many it keeps.
_NOTED_US: Final = 50
_NOTED: Final = 1_000


@dataclass
class Cost:
    """For each call: ms for its caller, and ms of its longest command in Redis."""

    caller_ms: list[float] = field(default_factory=list)
    redis_ms: list[float] = field(default_factory=list)


class Gauge:
    """Costs by name, in order of their first call.

    `SLOWLOG` tells how long a command took. That is wall-clock time, also while Redis waits for a
    processor, so the CPU time of its thread is the upper bound.
    """

    def __init__(self, client: Redis) -> None:
        self.client = client
        self.costs: dict[str, Cost] = {}
        client.config_set("slowlog-log-slower-than", _NOTED_US)
        client.config_set("slowlog-max-len", _NOTED)

    def measure(self, name: str, call: Callable[[], _T]) -> _T:
        """Call it and record what it cost."""
        cost = self.costs.setdefault(name, Cost())
        self.client.slowlog_reset()
        worked_ms, began = self._worked_ms(), time.perf_counter()
        result = call()
        cost.caller_ms.append((time.perf_counter() - began) * 1000)
        worked_ms = self._worked_ms() - worked_ms
        cost.redis_ms.append(min(self.slowest()[0], worked_ms))
        return result

    def _worked_ms(self) -> float:
        cpu: Any = self.client.info("cpu")
        return 1000 * float(cpu["used_cpu_user_main_thread"] + cpu["used_cpu_sys_main_thread"])

    def slowest(self) -> tuple[float, str]:
        """The longest command since the last `SLOWLOG RESET`: its ms and its start."""
        noted = [(e["duration"] / 1000, e["command"]) for e in self.client.slowlog_get(_NOTED)]
        ms, command = max(noted, default=(0.0, b""))
        return ms, command[:24].decode(errors="replace")
