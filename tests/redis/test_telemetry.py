"""Traces through the queue, and the figures: told once, the same by every way."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.sdk.metrics.export import Histogram, Metric, Sum
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families

import callbacks
from callbacks import runtime, telemetry
from callbacks.batcher.store import Batcher
from callbacks.model import Answer, Outcome, Reason, Steps
from callbacks.monitor import reporter
from callbacks.monitor.metrics import exposition
from callbacks.monitor.otlp import OtlpMetrics, metrics_data
from callbacks.monitor.reporter import Outlet, log_figures, report_once
from callbacks.monitor.snapshot import Snapshot, take
from callbacks.telemetry import sdk, spans
from tests.redis.support import begin, claim, key, put, settle
from tests.redis.test_duties import Receiver, sent

Make = Callable[..., Batcher]
URL = "https://a.example/x?token=hunter2"


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(spans, "_tracer", lambda: provider.get_tracer("callbacks"))
    monkeypatch.setattr(telemetry, "_spans", lambda: spans)
    yield exporter
    provider.shutdown()


def named(exported: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in exported.get_finished_spans() if span.name == name]


# Traces


def enqueue_many() -> None:
    callbacks.enqueue_many([{"callback_url": URL, "data": 1, "id": "c-1"}])


def aenqueue_many() -> None:
    asyncio.run(callbacks.aenqueue_many([{"callback_url": URL, "data": 1, "id": "c-1"}]))


@pytest.mark.parametrize(
    "enqueue",
    [
        lambda: callbacks.enqueue(URL, 1, id="c-1"),
        enqueue_many,
        lambda: asyncio.run(callbacks.aenqueue(URL, 1, id="c-1")),
        aenqueue_many,
    ],
    ids=["enqueue", "enqueue_many", "aenqueue", "aenqueue_many"],
)
def test_each_attempt_is_linked_to_the_call_that_enqueued_it(
    environment: Callable[..., None],
    exported: InMemorySpanExporter,
    enqueue: Callable[[], None],
) -> None:
    environment(CALLBACKS_RETRY_INCREMENT=0)
    enqueue()
    batcher = runtime.runtime().batcher.home
    (claimed,) = claim(batcher).callbacks
    receiver = Receiver(Answer(503, None, steps=Steps(answer=0.003)), Answer(200, None))
    for _ in range(2):
        sent(batcher, receiver, claimed.id, claimed.token)
    (producer,) = named(exported, "enqueue callbacks")
    first, second = named(exported, "deliver callbacks")
    for span in (first, second):
        (link,) = span.links
        assert link.context.span_id == producer.context.span_id
    assert first.attributes
    assert (first.attributes["callbacks.outcome"], first.attributes["callbacks.state"]) == (
        "retry",
        "retry",
    )
    assert [len(named(exported, name)) for name in ("POST", "deliver callbacks")] == [2, 2]
    assert "traceparent" not in receiver.posts[0][1]
    assert not any("hunter2" in span.to_json() for span in exported.get_finished_spans())


def test_receivers_get_the_context_where_that_is_asked_for(
    make_batcher: Make, environment: Callable[..., None], exported: InMemorySpanExporter
) -> None:
    environment()
    callbacks.enqueue(URL, 1, id="c-1")
    callbacks.enqueue(URL, 1, id="c-2", headers={"Traceparent": "theirs"})
    batcher = make_batcher(traceparent="true", destination_interval=0, send_interval=0)
    receiver = Receiver(Answer(200, None), Answer(200, None))
    for _ in range(2):
        for c in claim(batcher).callbacks:
            sent(batcher, receiver, c.id, c.token)
        batcher.scripts.client.hset(key("state"), "last_batch", 0)
    (post, _) = named(exported, "POST")
    headers = {h["webhook-id"]: h for _, h, _ in receiver.posts}
    assert headers["c-1"]["traceparent"].split("-")[2] == f"{post.context.span_id:016x}"
    assert headers["c-2"]["Traceparent"] == "theirs"
    assert "traceparent" not in headers["c-2"]


def test_the_log_line_of_a_traced_attempt_has_its_trace(
    batcher: Batcher, exported: InMemorySpanExporter, caplog: pytest.LogCaptureFixture
) -> None:
    put(batcher, "c-1")
    (claimed,) = claim(batcher).callbacks
    with caplog.at_level(logging.INFO, "callbacks"):
        sent(batcher, Receiver(Answer(200, None)), claimed.id, claimed.token)
    (span,) = named(exported, "deliver callbacks")
    (line,) = [r.getMessage() for r in caplog.records if "event=attempt" in r.getMessage()]
    assert f"trace_id={span.context.trace_id:032x}" in line


def test_without_a_secret_both_spans_end_with_that_error(
    make_batcher: Make, exported: InMemorySpanExporter
) -> None:
    batcher = make_batcher(secret_resolver="callbacks.text:many")
    put(batcher, "c-1")
    (claimed,) = claim(batcher).callbacks
    sent(batcher, Receiver(), claimed.id, claimed.token)
    (post,) = named(exported, "POST")
    assert post.attributes
    assert post.attributes["error.type"] == "no_secret"
    assert len(named(exported, "deliver callbacks")) == 1


# Metrics by OTLP


@pytest.fixture
def shown(make_batcher: Make) -> Snapshot:
    """A snapshot with some of everything."""
    batcher = make_batcher(
        min_interval=0, send_interval=0, destination_interval=0, destination_concurrency=0
    )
    batcher.tick("w-1", 3_000, threads=8, places=4, who=json.dumps({"busy": 2}))
    for id in ("c-1", "c-2", "c-3"):
        put(batcher, id)
    sent_one, late, dead = claim(batcher).callbacks
    for claimed in (sent_one, late, dead):
        begin(batcher, claimed)
    settle(batcher, sent_one, status=200, duration_ms=20, delivery_ms=300)
    settle(batcher, late, status=200, duration_ms=40_000, delivery_ms=90_000_000)
    settle(batcher, dead, Outcome.DEAD, reason=Reason.TIMEOUT, duration_ms=7_000)
    put(batcher, "waits")
    batcher.tick("w-2", 0)
    return take(batcher)


def prometheus(shown: Snapshot) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text = exposition(shown)[1].decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def by_otlp(metrics: list[Metric]) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """The same figures, read back from OTLP as Prometheus would name them."""
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for metric in metrics:
        for point in metric.data.data_points:
            labels: Any = frozenset((point.attributes or {}).items())
            if not isinstance(metric.data, Histogram):
                found[metric.name, labels] = point.value
                continue
            up_to = 0
            bounds = [*map(str, point.explicit_bounds), "+Inf"]
            for bound, count in zip(bounds, point.bucket_counts, strict=True):
                up_to += count
                found[f"{metric.name}_bucket", frozenset({("le", bound)})] = up_to
            found[f"{metric.name}_count", frozenset()] = point.count
            found[f"{metric.name}_sum", frozenset()] = point.sum
    return found


def test_otlp_has_the_same_figures_as_prometheus(shown: Snapshot) -> None:
    data = metrics_data(shown, Resource({"service.name": "callbacks"}))
    ((scope,),) = [one.scope_metrics for one in data.resource_metrics]
    expected = prometheus(shown)
    assert by_otlp(list(scope.metrics)) == expected
    assert len({metric.name for metric in scope.metrics}) == len(scope.metrics)
    assert expected["callbacks_attempt_duration_seconds_count", frozenset()] == 3
    encode_metrics(data)  # every value is of a type that goes out


def test_whichever_process_exports_looks_the_same_and_counts_from_the_start_of_the_data(
    shown: Snapshot,
) -> None:
    one, other = (
        metrics_data(
            shown, Resource({"service.name": "s", "service.instance.id": id, "host.name": id})
        )
        for id in "ab"
    )
    assert one == other
    (resource,) = one.resource_metrics
    assert dict(resource.resource.attributes) == {
        "service.name": "s",
        "service.instance.id": "callbacks",
    }
    totals = [
        point
        for metric in resource.scope_metrics[0].metrics
        if isinstance(metric.data, Sum | Histogram)
        for point in metric.data.data_points
    ]
    since_ms = shown.overview.data_since_ms
    assert since_ms
    assert {point.start_time_unix_nano for point in totals} == {since_ms * 1_000_000}


def test_the_exporter_gets_one_snapshot(shown: Snapshot) -> None:
    exports: list[object] = []

    class Exporter:
        def export(self, data: object) -> None:
            exports.append(data)

    OtlpMetrics(Exporter()).tell(shown)
    assert exports == [metrics_data(shown, sdk.resource())]


# Taking turns


def test_one_of_all_processes_tells_the_figures_of_an_interval(
    make_batcher: Make, client: redis.Redis
) -> None:
    told: list[str] = []
    outlets = [
        Outlet("figures", 60, lambda _: told.append("figures")),
        Outlet("otlp", 30, lambda _: told.append("otlp")),
    ]
    for n in range(3):
        assert report_once(make_batcher(), outlets) == (["figures", "otlp"] if n == 0 else [])
    assert told == ["figures", "otlp"]
    assert 26_000 < client.pttl(key("turn:otlp")) <= 27_000
    client.delete(key("turn:otlp"))
    assert report_once(make_batcher(), outlets) == ["otlp"]


def test_a_turn_that_a_clock_set_back_would_make_last_is_over(
    batcher: Batcher, client: redis.Redis
) -> None:
    assert batcher.turn("x", 1_000)
    assert not batcher.turn("x", 1_000)
    client.pexpire(key("turn:x"), 3_600_000)
    assert batcher.turn("x", 1_000)


def test_an_outlet_that_fails_keeps_no_other_from_its_turn(batcher: Batcher) -> None:
    told: list[str] = []

    def fail(_: Snapshot) -> None:
        raise RuntimeError("no")

    outlets = [Outlet("a", 60, fail), Outlet("b", 60, lambda _: told.append("b"))]
    with pytest.raises(RuntimeError):
        report_once(batcher, outlets)
    assert told == ["b"]


def test_the_figures_are_one_line(shown: Snapshot, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "callbacks"):
        log_figures(shown)
    (line,) = [record.getMessage() for record in caplog.records]
    words = dict(word.split("=", 1) for word in line.split() if "=" in word)
    assert words["event"] == "figures"
    assert (words["queued"], words["dead"], words["sent_per_minute"]) == ("1", "1", "2")
    assert (words["workers"], words["places"], words["accepted"]) == ("1", "8", "4")


def test_a_process_tells_what_its_settings_and_environment_ask_for(
    environment: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    environment()
    assert [(one.name, one.every_s) for one in runtime.outlets()] == [("figures", 60)]
    environment(CALLBACKS_FIGURES_INTERVAL=0)
    assert runtime.outlets() == []
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "5000")
    assert [(one.name, one.every_s) for one in runtime.outlets()] == [("otlp", 5)]


def test_a_reporter_outlives_what_goes_wrong_and_starts_once(
    batcher: Batcher, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporter, "_SPREAD_S", 0)
    times: list[int] = []

    def tell(_: Snapshot) -> None:
        times.append(1)
        client.delete(key("turn:x"))
        if len(times) == 1:
            raise RuntimeError("once")
        made.stop()

    made = reporter.Reporter(lambda: batcher, lambda: [Outlet("x", 0.01, tell)])
    made.start()
    thread = made._thread
    made.start()
    assert made._thread is thread
    assert thread is not None
    thread.join(20)
    assert not thread.is_alive()
    assert len(times) == 2
