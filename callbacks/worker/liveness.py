"""Signs of life of one process: when each of its parts was last seen to get on."""

from __future__ import annotations

import time
from collections.abc import Callable

from callbacks.native import native


class Liveness:
    """Times of the last beat, by name. A part that has nothing to do is dropped."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._beats: dict[str, float] = {}
        # The watchdog looks from a real thread, and nothing waits while it holds this.
        self._lock = native("_thread", "allocate_lock")()

    def beat(self, name: str) -> None:
        """Say that a part gets on."""
        with self._lock:
            self._beats[name] = self._monotonic()

    def drop(self, name: str) -> None:
        """Expect nothing of a part until its next beat."""
        with self._lock:
            self._beats.pop(name, None)

    def forgive(self) -> None:
        """Start over: nothing could make progress, for an outside reason.

        In one step: a part that is dropped meanwhile must not come back, for it will never beat.
        """
        with self._lock:
            self._beats = dict.fromkeys(self._beats, self._monotonic())

    def stale(self, patience_s: float) -> dict[str, float]:
        """Give the parts that did not get on for `patience_s`, and for how many seconds."""
        with self._lock:
            now, beats = self._monotonic(), self._beats.copy()
        return {name: now - at for name, at in beats.items() if now - at > patience_s}
