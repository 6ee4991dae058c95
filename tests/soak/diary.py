"""What happened when: a file to read, and counts for the summary."""

from __future__ import annotations

import threading
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path


class Diary:
    """Lines with the time of day and the seconds since the start; any thread may write."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.began = time.monotonic()
        self.counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def elapsed(self) -> float:
        return time.monotonic() - self.began

    def note(self, text: str, *, kind: str = "") -> None:
        """Write a line; with `kind` also count it."""
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        with self._lock:
            if kind:
                self.counts[kind] += 1
            with self.path.open("a") as file:
                file.write(f"{at} {self.elapsed():8.3f} {text}\n")
