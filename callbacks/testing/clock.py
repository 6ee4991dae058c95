"""A clock that tests move ahead: Redis' own, and so many milliseconds more.

Time is Redis' in all that is decided, so the scripts have to read the moved clock, too. The ones
made here (`VERBS`) add what is stored under a key of this module. The scripts of a running service
do not look there, so nothing that is stored in its Redis could move its time.
"""

from __future__ import annotations

import math
import threading
import time
from typing import Final

from redis import Redis

from callbacks.batcher.scripts import CLOCK, read_verbs

_KEY: Final = "callbacks-testing:ahead"
#: Keys live by the server's clock. Those with a time to live are seen to in steps of this.
_EXPIRY_STEP_MS: Final = 60_000
_EXPIRE: Final = """
for _, key in ipairs(redis.call('KEYS', '*')) do
  local left = redis.call('PTTL', key)
  if left > tonumber(ARGV[1]) then
    redis.call('PEXPIRE', key, left - ARGV[1])
  elseif left >= 0 then
    redis.call('DEL', key)
  end
end
"""

VERBS: Final = read_verbs(CLOCK + f"now = now + (redis.call('GET', '{_KEY}') or 0)\n")
"""The verbs, by a clock that can be moved."""


class Clock:
    """The time by which callbacks are sent, retried and expire. Other clocks go on as they do."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._ahead_ms = self._unexpired_ms = 0

    def advance(self, seconds: float) -> None:
        """Move it ahead; nothing is sent, see `deliver_all`. Raises `ValueError` below 0."""
        if seconds < 0:
            raise ValueError(f"the clock cannot be moved back: {seconds}")
        ms = math.ceil(seconds * 1_000)
        with self._lock:
            self._ahead_ms += ms
            self._client.set(_KEY, self._ahead_ms)
            self._unexpired_ms += ms
            if self._unexpired_ms >= _EXPIRY_STEP_MS:
                self._client.eval(_EXPIRE, 0, self._unexpired_ms)
                self._unexpired_ms = 0

    def time(self) -> float:
        """Return the time in seconds since 1970."""
        return time.time() + self._ahead_ms / 1_000

    @property
    def now_ms(self) -> int:
        """The time in ms, as scripts have it."""
        return time.time_ns() // 1_000_000 + self._ahead_ms

    def move_to(self, at_ms: int) -> None:
        """Move it ahead to a time, unless that has passed."""
        self.advance(max(0, at_ms - self.now_ms) / 1_000)

    # How an attempt waits for its instant, see `attempt.Timer`

    def monotonic(self) -> float:
        """Seconds that only grow."""
        return time.monotonic() + self._ahead_ms / 1_000

    def sleep(self, seconds: float, /) -> None:
        """Let time pass without waiting."""
        self.advance(seconds)
