"""Detects jumps of Redis' clock by comparing it with this process's own.

Redis' time decides when a callback is too old, so a clock that is set wrong could expire the whole
queue. Each reading is compared with the last one and the time that has passed here. After a jump
nothing expires (see `hold.lua`), until an operator ends that or an hour has passed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from redis import Redis

#: The smallest disagreement with our own clock that counts as a jump.
JUMP_MS: Final = 60_000
#: How long nothing expires after a jump ahead: long enough for whoever is on call. If the jump
#: was a correction, overdue callbacks live that much longer. `is_held` in `common.lua` has the
#: same value.
HELD_MS: Final = 3_600_000


def elapsed_s() -> float:
    """Seconds on a clock that cannot be set and keeps running while the machine sleeps."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)  # Linux; elsewhere `monotonic` is such a clock
    return time.monotonic() if clock is None else time.clock_gettime(clock)


def redis_ms(client: Redis) -> int:
    """Redis' time, in ms since 1970."""
    seconds, micros = client.time()
    return int(seconds) * 1_000 + int(micros) // 1_000


@dataclass(frozen=True, slots=True)
class Seen:
    """One reading: Redis' time, and our clock before and after it was asked."""

    redis_ms: int
    asked_s: float
    answered_s: float


class RedisClock:
    """What one process knows about Redis' time. One thread reads it, any thread may ask here."""

    def __init__(self, elapsed: Callable[[], float] = elapsed_s) -> None:
        self.elapsed = elapsed
        self._last: Seen | None = None
        self._compared = False

    @property
    def seen_ms(self) -> int:
        """Redis' time at the last reading."""
        return self._last.redis_ms if self._last else 0

    def jump_ms(self, look: Seen) -> int:
        """How far it has jumped since the last reading, in ms: negative if back, 0 if not."""
        last = self._last
        if last is None:
            return 0
        passed_ms = look.redis_ms - last.redis_ms
        most_ms = round((look.answered_s - last.asked_s) * 1_000)
        least_ms = round((look.asked_s - last.answered_s) * 1_000)
        if passed_ms > most_ms + JUMP_MS:
            return passed_ms - most_ms
        if passed_ms < least_ms - JUMP_MS:
            return passed_ms - least_ms
        return 0

    def keep(self, look: Seen) -> None:
        """Keep this reading, to compare the next one with it."""
        self._compared = self._last is not None
        self._last = look

    def latest_ms(self) -> int:
        """The latest time, in ms, that Redis can have now if its clock has not jumped.

        -1 if this process does not read it. 0 after one reading only: the clock may have jumped
        just before this process started; by its second reading all others have had one.
        """
        last = self._last
        if last is None:
            return -1
        if not self._compared:
            return 0
        return last.redis_ms + round((self.elapsed() - last.asked_s) * 1_000) + JUMP_MS
