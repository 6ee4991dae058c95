"""A snapshot as metrics for Prometheus.

They are read from Redis on each scrape, so any one process can export them for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from callbacks.batcher.inspector import TOTALS
from callbacks.monitor.health import WORDS
from callbacks.monitor.snapshot import Snapshot

#: What each total counts; all count transitions, and never decrease.
_COUNTED: Final = {
    "accepted": "Callbacks accepted by enqueue",
    "replayed": "Dead letters put back into the queue",
    "sent": "Callbacks answered with 2xx",
    "attempts": "Attempts that ended in an outcome",
    "retried": "Attempts followed by a retry that counts",
    "throttled": "Attempts followed by a retry that does not count (not now, or a failed probe)",
    "dead": "Callbacks that became dead letters",
    "recovered": "Callbacks taken back from dead or stopped workers",
    "stale": "Calls with an outdated token or attempt number, which changed nothing",
    "duplicates": "Enqueues refused because the id is known",
    "cancelled": "Callbacks that were cancelled",
    "purged": "Dead letters that were deleted",
    "lost": "Callbacks that audit --repair found to be missing",
    "found": "Callbacks that audit --repair found beyond those accepted",
}


class Overall(Collector):
    """Collects the metrics from the snapshot that `read` returns."""

    def __init__(self, read: Callable[[], Snapshot]) -> None:
        self._read = read

    def describe(self) -> list[Metric]:
        """Describe nothing: otherwise the registry would read Redis on registration."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics of one instant; raises redis-py's errors."""
        shown = self._read()
        o = shown.overview
        states = GaugeMetricFamily(
            "callbacks_current", "Callbacks that are in a state now", labels=["state"]
        )
        for state, count in (("queued", o.queued), ("processing", o.processing), ("dead", o.dead)):
            states.add_metric([state], count)
        yield states
        condition = GaugeMetricFamily(
            "callbacks_health", "1 for the current health, else 0", labels=["state"]
        )
        for word in WORDS:
            condition.add_metric([word], float(word == shown.health.word))
        yield condition
        for name, help, value in _gauges(shown):
            yield GaugeMetricFamily(f"callbacks_{name}", help, value)
        for name in TOTALS:
            yield CounterMetricFamily(f"callbacks_{name}", _COUNTED[name], o.totals[name])


def _gauges(shown: Snapshot) -> Iterator[tuple[str, str, float]]:
    o = shown.overview
    yield (
        "oldest_queued_age_seconds",
        "How long the oldest due callback has waited",
        shown.oldest_s or 0,
    )
    yield "send_interval_seconds", "The stagger: time between two sends", shown.send_interval_s
    yield "paused", "1 while everything is paused", float(o.paused_since_ms is not None)
    yield "processes", "Dramatiq processes seen within ten seconds", shown.processes
    yield "destinations_waiting", "Destinations with something waiting", o.destinations_waiting
    yield "sent_records", "Records of sent or cancelled callbacks", o.sent_records
    yield "balance", "By how many callbacks the books do not balance; must be 0", o.balance
    if o.data_lost_ms is not None:
        yield (
            "data_lost_timestamp_seconds",
            "When it was noticed that Redis had lost its data",
            o.data_lost_ms / 1000,
        )


def exposition(read: Callable[[], Snapshot], accept: str) -> tuple[str, bytes]:
    """Return content type and text of all metrics, in the format of the Accept header.

    Raises redis-py's errors.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Overall(read))
    encode, content_type = choose_encoder(accept)
    return content_type, encode(registry)
