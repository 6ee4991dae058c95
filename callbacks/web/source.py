"""What the pages show, read over one connection to Redis and shared by all who look."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Final, TypeVar

from flask import current_app

from callbacks.batcher.shards import Shards
from callbacks.batcher.store import Batcher
from callbacks.monitor.history import History, read_history
from callbacks.monitor.snapshot import Snapshot, take
from callbacks.web.readings import FRESH_S, Reading, Readings

#: A sample is taken once a minute.
_HISTORY_FRESH_S: Final = 10.0

_T = TypeVar("_T")


class Source:
    """Reads Redis for the pages, the health check and the metrics."""

    def __init__(self, batcher: Batcher | Shards, *, readings: Readings | None = None) -> None:
        self.batcher = batcher
        self.settings = batcher.settings
        self.readings = readings or Readings()

    def snapshot(self) -> Reading[Snapshot]:
        """All sizes, totals and health. Raises as `Readings.of`, like everything here."""
        return self.readings.of("snapshot", lambda: take(self.batcher))

    def history(self) -> Reading[History]:
        """The last hour and day."""
        scripts = self.batcher.scripts
        return self.readings.of("history", lambda: read_history(scripts), fresh_s=_HISTORY_FRESH_S)

    def of(self, key: Hashable, read: Callable[[], _T], *, fresh_s: float = FRESH_S) -> Reading[_T]:
        """What one page shows."""
        return self.readings.of(key, read, fresh_s=fresh_s)


def source() -> Source:
    """The source of this application."""
    found: Source = current_app.extensions["callbacks"]
    return found
