"""A snapshot as metrics for Prometheus.

Everything is read from Redis, so any one process can export it for all. No URL, id, host or
customer is a label.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from callbacks.batcher.inspector import TOTALS, Attempts
from callbacks.model import Outcome, Reason
from callbacks.monitor.health import NO_REDIS, WORDS
from callbacks.monitor.snapshot import Snapshot
from callbacks.policy.buckets import DELAY_MS, DURATION_MS, NONE, cumulated
from callbacks.version import __version__

_CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
#: What each total counts; all count transitions, and never decrease. Attempts have labels.
_COUNTED: Final = {
    "accepted": "Callbacks accepted by enqueue",
    "replayed": "Dead letters put back into the queue",
    "sent": "Callbacks answered with 2xx",
    "retried": "Attempts followed by a retry that counts",
    "throttled": "Attempts followed by a retry that does not count (not now, or a failed probe)",
    "dead": "Callbacks that became dead letters",
    "recovered": "Callbacks taken back from dead or stopped workers",
    "stale": "Calls with an outdated token or attempt number, which changed nothing",
    "refused": "Enqueues refused with QueueFull",
    "duplicates": "Enqueues refused because the id is known",
    "cancelled": "Callbacks that were cancelled",
    "purged": "Dead letters that were deleted",
    "lost": "Callbacks that audit --repair found to be missing",
    "found": "Callbacks that audit --repair found beyond those accepted",
}
#: The status class of an attempt that failed for a reason; without a status if not listed.
_CLASSES: Final = {
    Reason.REDIRECT: "3xx",
    Reason.GONE: "4xx",
    Reason.RATE_LIMITED: "4xx",
    Reason.CLIENT_ERROR: "4xx",
    Reason.SERVER_ERROR: "5xx",
}
#: Reasons for which a callback ends without an attempt, or an attempt is not counted.
_NO_ATTEMPT: Final = {Reason.EXPIRED, Reason.CANCELLED, Reason.NO_SECRET}
_LABELS: Final = ("outcome", "reason", "status_class")
#: All kinds of attempts, so that each is there at 0 before it happens for the first time.
KINDS: Final = (
    (Outcome.SENT.value, NONE, "2xx"),
    *(
        (outcome.value, reason.value, _CLASSES.get(reason, NONE))
        for outcome in (Outcome.RETRY, Outcome.DEAD)
        for reason in Reason
        if reason not in _NO_ATTEMPT
    ),
)


class Overall(Collector):
    """The metrics of one snapshot; None: Redis cannot be read."""

    def __init__(self, shown: Snapshot | None) -> None:
        self._shown = shown

    def describe(self) -> list[Metric]:
        """Describe nothing: `collect` does."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics of one instant."""
        shown = self._shown
        yield _one_of("build_info", "The release of this exporter", "version", {__version__: 1.0})
        now = (shown.health if shown else NO_REDIS).word
        words = {word: float(word == now) for word in WORDS}
        yield _one_of("health", "1 for the current health, else 0", "state", words)
        if shown is None:
            return
        for name, help, value in _gauges(shown):
            if value is not None:
                yield GaugeMetricFamily(f"callbacks_{name}", help, value)
        for name in TOTALS:
            if name in _COUNTED:
                total = shown.overview.totals[name]
                yield CounterMetricFamily(f"callbacks_{name}", _COUNTED[name], total)
        yield from _of_attempts(shown.attempts)


def _one_of(name: str, help: str, label: str, values: dict[str, float]) -> Metric:
    family = GaugeMetricFamily(f"callbacks_{name}", help, labels=[label])
    for word, value in values.items():
        family.add_metric([word], value)
    return family


def _gauges(shown: Snapshot) -> Iterator[tuple[str, str, float | None]]:
    """Name, help and value of each; None: unknown, so it is left out."""
    o, memory, holds = shown.overview, shown.memory, Counter(shown.survey.holds)
    yield "queued", "Callbacks waiting for a claim", o.queued
    yield "ready", "Queued callbacks that are due and not held", shown.survey.ready
    yield "processing", "Callbacks claimed, in flight or waiting to retry", o.processing
    yield "in_flight", "Requests in flight", o.in_flight
    yield "dead", "Dead letters", o.dead
    yield (
        "oldest_ready_age_seconds",
        "How long the oldest callback has been due that is not held",
        shown.oldest_ready_s or 0,
    )
    yield (
        "oldest_held_age_seconds",
        "How long the oldest callback has been due that a breaker, park, pause or secret holds",
        shown.oldest_held_s or 0,
    )
    yield "breakers_open", "Destinations whose breaker is open or half-open", holds["breaker"]
    yield "destinations_paused", "Destinations paused by an operator", holds["paused"]
    yield "destinations_parked", "Destinations that asked to wait", holds["park"]
    yield "destinations_unsigned", "Destinations for which no secret is found", holds["secret"]
    yield "destinations_waiting", "Destinations with something waiting", o.destinations_waiting
    yield "paused", "1 while everything is paused", float(o.paused_since_ms is not None)
    yield "workers", "Worker processes that reported lately", len(shown.workers)
    yield (
        "worker_places",
        "Threads or greenlets of all workers",
        sum(worker.places for worker in shown.workers),
    )
    yield (
        "worker_places_busy",
        "Threads or greenlets of all workers that are at a request",
        sum(worker.busy for worker in shown.workers),
    )
    yield (
        "scheduler_last_seen_timestamp_seconds",
        "When the scheduler was last seen",
        _seconds(o.scheduled_ms),
    )
    yield "redis_memory_bytes", "Memory that Redis uses", memory.used if memory else None
    yield (
        "redis_memory_limit_bytes",
        "Memory that Redis may use, 0: no limit",
        memory.limit if memory else None,
    )
    yield "send_interval_seconds", "The stagger: time between two sends", shown.send_interval_s
    yield "sent_records", "Records of sent or cancelled callbacks", o.sent_records
    yield "balance", "By how many callbacks the totals do not balance; must be 0", o.balance
    yield (
        "data_lost_timestamp_seconds",
        "When it was noticed that Redis had lost its data",
        _seconds(o.data_lost_ms),
    )


def _seconds(ms: int | None) -> float | None:
    return None if ms is None else ms / 1000


def _of_attempts(attempts: Attempts) -> Iterator[Metric]:
    """Attempts by kind, and two histograms. Those that crashed have no duration."""
    kinds = Counter(dict.fromkeys(KINDS, 0))
    for one in attempts.counted:
        kinds[one.outcome, one.reason, one.status_class] += one.count
    family = CounterMetricFamily(
        "callbacks_attempts", "Attempts that ended, by outcome, reason and status", labels=_LABELS
    )
    for kind, count in sorted(kinds.items()):
        family.add_metric(kind, count)
    yield family
    durations = [
        (one.duration_ms, one.count) for one in attempts.counted if one.duration_ms is not None
    ]
    yield HistogramMetricFamily(
        "callbacks_attempt_duration_seconds",
        "How long attempts took",
        buckets=cumulated(durations, DURATION_MS),
        sum_value=attempts.duration_ms / 1000,
    )
    delays = [(one.delay_ms, one.count) for one in attempts.counted if one.delay_ms is not None]
    yield HistogramMetricFamily(
        "callbacks_delivery_delay_seconds",
        "Time from enqueue to the 2xx of what was sent, delays asked for included",
        buckets=cumulated(delays, DELAY_MS),
        sum_value=attempts.delay_ms / 1000,
    )


def exposition(shown: Snapshot | None) -> tuple[str, bytes]:
    """Return content type and text of all metrics; None: Redis cannot be read.

    In Prometheus' own text format alone: in OpenMetrics the gauge `callbacks_dead` and the counter
    `callbacks_dead_total` would have the same name.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Overall(shown))
    return _CONTENT_TYPE, generate_latest(registry)
