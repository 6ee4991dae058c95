"""Redis' clock, watched by this process's own: does it jump?

Redis' time decides when a callback is too old, so a clock that is set wrong would end everything
that waits. Two looks at it are compared with the time that passed here meanwhile. Where it has
jumped, ends of life wait (see `hold.lua`), until a person or an hour has put it right.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

#: From here on two looks that disagree with our own clock are a jump.
JUMP_MS: Final = 60_000
#: So long nothing ends for its age after a jump ahead. Long enough for whoever is called; and
#: where the clock was put right by the jump, callbacks too old live so much longer. `is_held` in
#: `common.lua` has the same figure.
HELD_MS: Final = 3_600_000


def elapsed_s() -> float:
    """Seconds on a clock that nobody sets and that goes on while the machine sleeps."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)  # Linux; elsewhere monotonic does so
    return time.monotonic() if clock is None else time.clock_gettime(clock)


@dataclass(frozen=True, slots=True)
class Seen:
    """A look: Redis' time in ms, and ours in s when it was asked and when it had answered."""

    redis_ms: int
    asked_s: float
    answered_s: float


class RedisClock:
    """What one process knows of Redis' time. One thread looks, any may ask."""

    def __init__(self, elapsed: Callable[[], float] = elapsed_s) -> None:
        self.elapsed = elapsed
        self._last: Seen | None = None
        self._compared = False

    @property
    def seen_ms(self) -> int:
        """Redis' time at the last look."""
        return self._last.redis_ms if self._last else 0

    def jump_ms(self, look: Seen) -> int:
        """By how much it has jumped since the last look, ms; below 0: back; 0: it has not."""
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
        """Compare the next look with this one."""
        self._compared = self._last is not None
        self._last = look

    def latest_ms(self) -> int:
        """The latest time that it can be at Redis now if its clock has not jumped, ms.

        -1: nobody looks here. 0 after one look alone: this process has just begun and cannot
        know whether the clock has just jumped; by its second look all others have had theirs.
        """
        last = self._last
        if last is None:
            return -1
        if not self._compared:
            return 0
        return last.redis_ms + round((self.elapsed() - last.asked_s) * 1_000) + JUMP_MS
