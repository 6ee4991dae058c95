"""Real workers export to a real receiver of OTLP, and nothing is lost at their end."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider

from callbacks import telemetry
from callbacks.telemetry import spans
from tests.process.conftest import System
from tests.process.faults import BOTH_KINDS, TERM_S, minute_in, ready
from tests.support.collector import Collector
from tests.support.processes import until
from tests.support.target import Target

COUNT = 12


@BOTH_KINDS
def test_workers_export_spans_and_metrics_and_flush_when_they_are_told_to_end(
    system: System, enqueue: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = TracerProvider(shutdown_on_exit=False)  # that of the application
    monkeypatch.setattr(spans, "_tracer", lambda: provider.get_tracer("app"))
    monkeypatch.setattr(telemetry, "_spans", lambda: spans)
    with Collector() as collector, Target() as target:
        system.configure(
            max_delay=0.2,
            min_interval=0.05,
            send_interval=0,
            destination_interval=0,
            destination_concurrency=0,
            traceparent="true",
            figures_interval=1,
        )
        system.groups.env |= {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_BSP_SCHEDULE_DELAY": "3600000",  # so that only the end can flush
            "OTEL_METRIC_EXPORT_INTERVAL": "1000",
            "OTEL_SERVICE_NAME": "hooks",
        }
        workers = system.groups.worker(processes=2)
        ready(workers)
        enqueue(target.url, COUNT)
        until(system.settled, within=30)
        until(lambda: any(has_all_sent(one) for one in collector.exports), within=30)
        until(lambda: f"sent={COUNT}" in workers.output, within=30)
        assert collector.spans == []
        workers.signal(signal.SIGTERM)
        workers.wait(TERM_S)
        deliveries, posts = collector.named("deliver callbacks"), collector.named("POST")
        assert (len(deliveries), len(posts)) == (COUNT, COUNT)
        below = {post.parent_span_id for post in posts}
        assert below == {span.span_id for span in deliveries}
        assert len({link.span_id for span in deliveries for link in span.links}) == 1
        went_out = {hit.headers["traceparent"].split("-")[2] for hit in target.hits}
        assert went_out == {post.span_id.hex() for post in posts}
        assert {one["service.name"] for one in collector.resources} == {"hooks"}
        assert "Traceback" not in workers.output
    assert system.audit() == []


def has_all_sent(export: dict[str, object]) -> bool:
    metric = export.get("callbacks_sent_total")
    return bool(metric) and metric.sum.data_points[0].as_int == COUNT  # type: ignore[attr-defined]


def test_a_collector_that_is_away_holds_nothing_up(
    system: System, enqueue: Callable[..., None]
) -> None:
    with Target() as target:
        system.configure(max_delay=0.2, send_interval=0, destination_interval=0)
        system.groups.env["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:1"
        workers = system.groups.worker(processes=1)
        ready(workers, processes=1)
        enqueue(target.url, 3)
        until(system.settled, within=30)
        workers.signal(signal.SIGTERM)
        workers.wait(TERM_S)
        assert len(target.hits) == 3


def test_the_scheduler_tells_the_figures_if_no_worker_does(system: System, tmp_path: Path) -> None:
    system.configure(figures_interval=1)
    scheduler = system.groups.scheduler(**minute_in(tmp_path, 3))
    until(lambda: "event=figures" in scheduler.output, within=40, what="figures")
    assert "workers=0" in scheduler.output
