"""What the pages show, read over one connection to Redis and shared by all who look."""

from __future__ import annotations

from flask import current_app

from callbacks.batcher.store import Batcher
from callbacks.monitor.snapshot import Snapshot, take
from callbacks.web.readings import Reading, Readings


class Source:
    """Reads Redis for the pages, the health check and the metrics."""

    def __init__(self, batcher: Batcher, *, readings: Readings | None = None) -> None:
        self.batcher = batcher
        self.settings = batcher.settings
        self.readings = readings or Readings()

    def snapshot(self) -> Reading[Snapshot]:
        """All sizes, totals and health. Raises as `Readings.of`."""
        return self.readings.of("snapshot", lambda: take(self.batcher))


def source() -> Source:
    """The source of this application."""
    found: Source = current_app.extensions["callbacks"]
    return found
