"""The whole at one instant, as metrics for Prometheus.

They are read from Redis when they are asked for, so any one process can tell them for all.
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

#: What each total counts; all are of transitions, and never fall.
_COUNTED: Final = {
    "accepted": "Callbacks that enqueue took over",
    "replayed": "Dead letters that were put back into the queue",
    "sent": "Callbacks that their receiver answered with 2xx",
    "attempts": "Attempts that ended in an outcome",
    "retried": "Attempts that are to be made again, on the callback's budget",
    "throttled": "Attempts whose receiver said not now",
    "dead": "Callbacks that became dead letters",
    "recovered": "Callbacks that were taken back from dead or stopped workers",
    "stale": "Calls with a token or an attempt number of the past, which changed nothing",
    "duplicates": "Enqueues refused because the id is known",
    "cancelled": "Callbacks that were cancelled",
    "purged": "Dead letters that were forgotten",
    "lost": "Callbacks that audit --repair found to be missing",
    "found": "Callbacks that audit --repair found to be more than were accepted",
}


class Overall(Collector):
    """Collects the metrics from a snapshot, which `read` gives."""

    def __init__(self, read: Callable[[], Snapshot]) -> None:
        self._read = read

    def describe(self) -> list[Metric]:
        """Name nothing in advance: the registry would read Redis for it."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Give all metrics of one instant; raises redis' own errors."""
        shown = self._read()
        o = shown.overview
        states = GaugeMetricFamily(
            "callbacks_current", "Callbacks that are in a state now", labels=["state"]
        )
        for state, count in (("queued", o.queued), ("processing", o.processing), ("dead", o.dead)):
            states.add_metric([state], count)
        yield states
        condition = GaugeMetricFamily(
            "callbacks_health", "1 for the word that says how the whole is doing", labels=["state"]
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
    yield "processes", "Processes of Dramatiq seen within ten seconds", shown.processes
    yield "destinations_waiting", "Destinations with something waiting", o.destinations_waiting
    yield "sent_records", "Sent or cancelled callbacks that are remembered", o.sent_records
    yield "balance", "By how many callbacks the books do not balance; 0 is right", o.balance
    if o.data_lost_ms is not None:
        yield (
            "data_lost_timestamp_seconds",
            "When Redis was seen to have lost what it held",
            o.data_lost_ms / 1000,
        )


def exposition(read: Callable[[], Snapshot], accept: str) -> tuple[str, bytes]:
    """Write all metrics in the format that an Accept header asks for: its content type, and they.

    Raises redis' own errors where the snapshot does.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Overall(read))
    encode, content_type = choose_encoder(accept)
    return content_type, encode(registry)
