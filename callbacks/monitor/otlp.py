"""The metrics of a snapshot by OTLP, for platforms that cannot be scraped.

They are those of `metrics`, by the same names. What is counted is counted in Redis, so all
processes that may export tell as one: the same resource, and totals since Redis has had its data.
The SDK's own instruments know neither such a start nor a histogram that is already counted, so
its data points are made here.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any, Final

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client.core import Metric as Family

from callbacks.monitor.metrics import Overall
from callbacks.monitor.snapshot import Snapshot
from callbacks.telemetry.sdk import resource
from callbacks.version import __version__

_CUMULATIVE: Final = AggregationTemporality.CUMULATIVE
_UNITS: Final = {"_seconds": "s", "_bytes": "By"}
#: Of one process of many, which takes turns with the others.
_OWN: Final = ("service.instance.id", "host.", "process.")
_NS: Final = 1_000_000


class OtlpMetrics:
    """Exports snapshots as the environment says (`OTEL_EXPORTER_OTLP_…`)."""

    def __init__(self, exporter: Any = None) -> None:
        self._given = exporter

    def tell(self, shown: Snapshot) -> None:
        """Export one snapshot; the exporter logs what goes wrong."""
        self._exporter.export(metrics_data(shown, self._resource))

    @cached_property
    def _exporter(self) -> Any:
        return self._given or OTLPMetricExporter()

    @cached_property
    def _resource(self) -> Resource:
        made: Resource = resource()
        return made


def metrics_data(shown: Snapshot, told_by: Resource) -> MetricsData:
    """All metrics of a snapshot as the exporter takes them."""
    now_ns = shown.overview.now_ms * _NS
    start_ns = (shown.overview.data_since_ms or shown.overview.now_ms) * _NS
    metrics = [
        metric for family in Overall(shown).collect() for metric in _of(family, start_ns, now_ns)
    ]
    scope = ScopeMetrics(InstrumentationScope("callbacks", __version__), metrics, "")
    shared = _shared(told_by, shown.settings.namespace)
    return MetricsData([ResourceMetrics(shared, [scope], shared.schema_url)])


def _shared(told_by: Resource, namespace: str) -> Resource:
    """A resource without what is of this process alone: all that export have to look the same."""
    kept = {name: v for name, v in told_by.attributes.items() if not name.startswith(_OWN)}
    return Resource(kept | {"service.instance.id": namespace}, told_by.schema_url)


def _of(family: Family, start_ns: int, now_ns: int) -> Iterator[Metric]:
    """A family of Prometheus' as a metric; its counters keep their `_total`, as gauges have names
    like theirs without it.
    """
    unit = next((unit for end, unit in _UNITS.items() if family.name.endswith(end)), "")

    def point(labels: dict[str, str], value: float) -> NumberDataPoint:
        return NumberDataPoint(labels, start_ns, now_ns, value)

    # A metric keeps its type: a gauge that happens to be whole is no integer.
    if family.type == "gauge":
        points = [point(sample.labels, float(sample.value)) for sample in family.samples]
        yield Metric(family.name, family.documentation, unit, Gauge(points))
    elif family.type == "counter":
        counted = [sample for sample in family.samples if sample.name.endswith("_total")]
        points = [point(sample.labels, int(sample.value)) for sample in counted]
        data = Sum(points, _CUMULATIVE, is_monotonic=True)
        yield Metric(f"{family.name}_total", family.documentation, unit, data)
    elif family.type == "histogram":
        data_of = Histogram([_histogram(family, start_ns, now_ns)], _CUMULATIVE)
        yield Metric(family.name, family.documentation, unit, data_of)


def _histogram(family: Family, start_ns: int, now_ns: int) -> HistogramDataPoint:
    """The one histogram of a family. Its buckets count up to their bound; here each is its own."""
    buckets = [s for s in family.samples if s.name.endswith("_bucket")]
    up_to = [int(sample.value) for sample in buckets]
    sums = [sample.value for sample in family.samples if sample.name.endswith("_sum")]
    return HistogramDataPoint(
        attributes={},
        start_time_unix_nano=start_ns,
        time_unix_nano=now_ns,
        count=up_to[-1],
        sum=sums[0],
        bucket_counts=[n - below for n, below in zip(up_to, [0, *up_to], strict=False)],
        explicit_bounds=[float(sample.labels["le"]) for sample in buckets[:-1]],
        min=None,  # type: ignore[arg-type]  # not known; the protocol has it as optional
        max=None,  # type: ignore[arg-type]
    )
