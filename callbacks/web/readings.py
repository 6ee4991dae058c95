"""What was read from Redis last: each thing at most once a second, and kept while Redis is away.

So many requests cost Redis no more than one, and an outage leaves the last numbers on the pages.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import redis

from callbacks.batcher.errors import AWAY
from callbacks.log import log

#: How long a reading is used again, however many requests come.
FRESH_S: Final = 1.0
#: Most readings kept: those of the pages that people have open.
MOST: Final = 64

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Reading(Generic[_T]):
    """What was read, and how long ago. `error`: why it could not be read again just now."""

    value: _T
    age_s: float = 0.0
    error: redis.RedisError | None = None

    @property
    def old(self) -> bool:
        """Whether it is kept from before an outage."""
        return self.error is not None


class _Kept:
    """One reading, the lock of whoever reads it, and Redis' last answer if that was an error."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.value: Any = None
        self.at: float | None = None
        self.tried: float | None = None
        self.refusal: redis.RedisError | None = None


class Readings:
    """The last readings by key, for all threads of a process."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()
        self._away: redis.RedisError | None = None
        self._failed_at = 0.0

    def of(self, key: Hashable, read: Callable[[], _T], *, fresh_s: float = FRESH_S) -> Reading[_T]:
        """Return the reading of a key; calls `read` if it is older than `fresh_s`.

        While Redis is away it is asked once a second, whatever the key, and the last reading is
        returned with the error. Raises the error, one of redis-py's, if there is none.
        """
        kept = self._slot(key)
        if not self._failed_lately():
            with kept.lock:
                self._refresh(kept, read, fresh_s)
        at, error = kept.at, self._away or kept.refusal
        if at is not None:
            return Reading(kept.value, self._monotonic() - at, error)
        raise error or redis.ConnectionError("it has not been read yet")

    def forget(self, key: Hashable) -> None:
        """Have the next request read a key again, because something was changed."""
        with self._lock:
            self._kept.pop(key, None)

    def _slot(self, key: Hashable) -> _Kept:
        with self._lock:
            kept = self._kept.setdefault(key, _Kept())
            self._kept.move_to_end(key)
            while len(self._kept) > MOST:
                self._kept.popitem(last=False)
            return kept

    def _failed_lately(self) -> bool:
        with self._lock:
            return self._away is not None and self._monotonic() - self._failed_at < FRESH_S

    def _refresh(self, kept: _Kept, read: Callable[[], object], fresh_s: float) -> None:
        now = self._monotonic()
        patience_s = FRESH_S if kept.at is None or self._away else fresh_s
        fresh = kept.tried is not None and now - kept.tried < patience_s
        if fresh or self._failed_lately():  # while this thread waited for the lock
            return
        kept.tried = now
        try:
            kept.value, kept.at, kept.refusal = read(), self._monotonic(), None
        except AWAY as error:
            self._note(error)
        except redis.RedisError as error:
            if kept.refusal is None:
                log.warning("redis_away", error=str(error))
            kept.refusal = error
        else:
            self._note(None)

    def _note(self, error: redis.RedisError | None) -> None:
        """Note whether Redis answered; logs once that it is away, and once that it is back."""
        with self._lock:
            before, self._away = self._away, error
            self._failed_at = self._monotonic()
        if error is not None and before is None:
            log.warning("redis_away", error=str(error))
        elif error is None and before is not None:
            log.info("redis_back")
