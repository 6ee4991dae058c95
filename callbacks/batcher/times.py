"""Sums of times, collected in a process until its next tick stores them.

To store them with each attempt would make `settle` take another twentieth longer.
"""

from __future__ import annotations

import threading


class Times:
    """How long attempts took, and how long after their enqueue callbacks were sent, in ms."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._duration_ms = self._delay_ms = 0

    def add(self, duration_ms: int, delay_ms: int) -> None:
        """Add those of one attempt, or what could not be stored."""
        with self._lock:
            self._duration_ms += duration_ms
            self._delay_ms += delay_ms

    def take(self) -> tuple[int, int]:
        """Return the sums of durations and delays since the last call."""
        with self._lock:
            taken = self._duration_ms, self._delay_ms
            self._duration_ms = self._delay_ms = 0
        return taken
