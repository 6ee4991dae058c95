"""Spans: by the conventions, linked, without secrets; and nothing at all where none are wanted."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, format_span_id, format_trace_id

from callbacks import telemetry
from callbacks.model import Answer, InvalidCallback, Reason, Request, Steps
from callbacks.request.freeze import pack, unpack
from callbacks.telemetry import sdk, spans

URL = "https://customer.example:8443/hooks/ai?token=hunter2"
CONTEXT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
REQUEST = Request(
    URL, "https://customer.example:8443", "production", (("authorization", "s3cret"),), b"{}"
)
WAITS = (0, 0, 4_873, 12, 0)


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """What this process's tracer provider would get."""
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(spans, "_tracer", lambda: provider.get_tracer("callbacks"))
    monkeypatch.setattr(telemetry, "_spans", lambda: spans)
    yield exporter
    provider.shutdown()


def attempt(
    answer: Answer,
    request: Request = REQUEST,
    *,
    number: int = 1,
    reason: str | None = None,
    sends_context: bool = False,
    masks_paths: bool = False,
) -> dict[str, str]:
    """Trace an attempt with this answer; return the headers that would go out."""
    with telemetry.attempting(
        request,
        namespace="shop",
        id="c-1",
        attempt=number,
        sends_context=sends_context,
        masks_paths=masks_paths,
    ) as traced:
        headers = dict(traced.headers)
        traced.answered(answer)
        outcome, state = ("retry", "retry") if reason else ("sent", "sent")
        traced.ended(answer, WAITS, outcome=outcome, reason=reason, state=state)
    return headers


def by_name(exported: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exported.get_finished_spans()}


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def test_an_enqueue_is_a_producer_span_whose_context_goes_along(
    exported: InMemorySpanExporter,
) -> None:
    with telemetry.enqueueing("shop", masks_paths=False) as traced:
        context = traced.context
        traced.stored("c-1", REQUEST.destination, accepted=True)
    (span,) = exported.get_finished_spans()
    assert (span.name, span.kind) == ("enqueue shop", SpanKind.PRODUCER)
    assert span.status.status_code is StatusCode.UNSET
    assert attributes(span) == {
        "messaging.system": "callbacks",
        "messaging.operation.name": "enqueue",
        "messaging.operation.type": "send",
        "messaging.destination.name": "shop",
        "messaging.message.id": "c-1",
        "callbacks.destination": "https://customer.example:8443",
        "callbacks.accepted": True,
    }
    ids = format_trace_id(span.context.trace_id), format_span_id(span.context.span_id)
    assert context.startswith("00-{}-{}-".format(*ids))
    assert len(context) == len(CONTEXT)


def test_a_batch_is_one_span(exported: InMemorySpanExporter) -> None:
    with telemetry.enqueueing("shop", masks_paths=False) as traced:
        traced.stored_many(3)
    (span,) = exported.get_finished_spans()
    assert attributes(span)["messaging.batch.message_count"] == 3


def test_an_enqueue_that_fails_tells_the_class_of_its_error_alone(
    exported: InMemorySpanExporter,
) -> None:
    with pytest.raises(InvalidCallback), telemetry.enqueueing("shop", masks_paths=False):
        raise InvalidCallback("headers", "has the secret s3cret")
    (span,) = exported.get_finished_spans()
    assert attributes(span)["error.type"] == "InvalidCallback"
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "headers")
    assert span.events == ()


def test_an_attempt_is_linked_to_its_enqueue_and_has_the_request_below(
    exported: InMemorySpanExporter,
) -> None:
    steps = Steps(lookup=0.001, answer=0.018, reused=False)
    attempt(Answer(200, None, duration=0.02, steps=steps), with_context())
    found = by_name(exported)
    process, post = found["deliver shop"], found["POST"]
    assert (process.kind, post.kind) == (SpanKind.CONSUMER, SpanKind.CLIENT)
    assert process.parent is None
    assert post.parent is not None
    assert post.parent.span_id == process.context.span_id
    (link,) = process.links
    assert format_trace_id(link.context.trace_id) == CONTEXT[3:35]
    assert attributes(process) == {
        "messaging.system": "callbacks",
        "messaging.operation.name": "deliver",
        "messaging.operation.type": "process",
        "messaging.destination.name": "shop",
        "messaging.message.id": "c-1",
        "messaging.message.body.size": 2,
        "callbacks.destination": "https://customer.example:8443",
        "callbacks.attempt": 1,
        "callbacks.outcome": "sent",
        "callbacks.state": "sent",
        "callbacks.waited": 4.885,
        "callbacks.batch": 4.873,
        "callbacks.pace": 0.012,
    }
    assert attributes(post) == {
        "http.request.method": "POST",
        "server.address": "customer.example",
        "server.port": 8443,
        "url.full": "https://customer.example:8443/hooks/ai",
        "network.protocol.version": "1.1",
        "http.response.status_code": 200,
        "callbacks.lookup": 0.001,
        "callbacks.answer": 0.018,
        "callbacks.connection_reused": False,
    }
    assert {span.status.status_code for span in (process, post)} == {StatusCode.UNSET}


def with_context(context: str = CONTEXT) -> Request:
    return unpack(pack(Request(*[getattr(REQUEST, name) for name in FIELDS], context)))


FIELDS = ("callback_url", "destination", "environment", "headers", "body")


@pytest.mark.parametrize(
    ("answer", "reason", "kind"),
    [
        (Answer(503, None), "server_error", "503"),
        (Answer(401, None, said="s3cret"), "client_error", "401"),
        (Answer(None, Reason.TIMEOUT, "no answer"), "timeout", "timeout"),
    ],
)
def test_a_failure_is_an_error_of_both_spans(
    exported: InMemorySpanExporter, answer: Answer, reason: str, kind: str
) -> None:
    attempt(answer, number=3, reason=reason)
    found = by_name(exported)
    process, post = found["deliver shop"], found["POST"]
    assert attributes(process)["error.type"] == reason
    assert attributes(post)["error.type"] == kind
    assert attributes(post)["http.request.resend_count"] == 2
    assert {span.status.status_code for span in (process, post)} == {StatusCode.ERROR}
    assert "http.response.status_code" not in attributes(post) or answer.status


def test_a_redirect_fails_the_attempt_but_not_the_request(exported: InMemorySpanExporter) -> None:
    attempt(Answer(302, None), reason="redirect")
    found = by_name(exported)
    assert found["POST"].status.status_code is StatusCode.UNSET
    assert found["deliver shop"].status.status_code is StatusCode.ERROR


def test_spans_end_although_we_fail(exported: InMemorySpanExporter) -> None:
    with (
        pytest.raises(RuntimeError),
        telemetry.attempting(
            REQUEST, namespace="shop", id="c-1", attempt=1, sends_context=False, masks_paths=False
        ),
    ):
        raise RuntimeError("s3cret")
    assert len(exported.get_finished_spans()) == 2
    for span in exported.get_finished_spans():
        assert attributes(span)["error.type"] == "RuntimeError"
        assert (span.status.description, span.events) == (None, ())


def test_no_span_has_a_secret(exported: InMemorySpanExporter) -> None:
    attempt(Answer(500, None, said="whsec_xyz s3cret"), with_context(), reason="server_error")
    with telemetry.enqueueing("shop", masks_paths=False) as traced:
        traced.stored("c-1", REQUEST.destination, accepted=True)
    text = "".join(span.to_json() for span in exported.get_finished_spans())
    assert not [word for word in ("hunter2", "s3cret", "whsec_", "token") if word in text]


def test_paths_are_masked_where_they_may_be_the_secret(exported: InMemorySpanExporter) -> None:
    shared = replace(REQUEST, destination="https://customer.example:8443/hooks/ai")
    attempt(Answer(200, None), shared, masks_paths=True)
    with telemetry.enqueueing("shop", masks_paths=True) as traced:
        traced.stored("c-1", shared.destination, accepted=True)
    text = "".join(span.to_json() for span in exported.get_finished_spans())
    assert "hooks" not in text
    assert text.count("https://customer.example:8443/~") == 3


def test_the_context_goes_out_only_where_asked_for(exported: InMemorySpanExporter) -> None:
    assert attempt(Answer(200, None), with_context()) == {}
    headers = attempt(Answer(200, None), with_context(), sends_context=True)
    post = exported.get_finished_spans()[-2]
    ids = format_trace_id(post.context.trace_id), format_span_id(post.context.span_id)
    assert (post.name, headers.keys()) == ("POST", {"traceparent"})
    assert headers["traceparent"].startswith("00-{}-{}-".format(*ids))


def test_untraced_the_context_of_the_enqueue_goes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "_spans", lambda: None)
    assert attempt(Answer(200, None), with_context(), sends_context=True) == {
        "traceparent": CONTEXT
    }
    both = with_context(f"{CONTEXT} a=1,b=x y")
    assert attempt(Answer(200, None), both, sends_context=True) == {
        "traceparent": CONTEXT,
        "tracestate": "a=1,b=x y",
    }
    assert attempt(Answer(200, None), both) == {}
    assert attempt(Answer(200, None), REQUEST, sends_context=True) == {}


@pytest.mark.parametrize("context", ["", CONTEXT, f"{CONTEXT} congo=t61rcWkgMzE,rojo=a b"])
def test_a_frozen_request_carries_the_context(context: str) -> None:
    request = with_context(context)
    assert request.trace == context
    assert (request.headers, request.body) == (REQUEST.headers, REQUEST.body)
    assert len(pack(request)) - len(pack(REQUEST)) == (len(context) + 1 if context else 0)


def test_a_tracestate_that_could_be_mistaken_is_left_out() -> None:
    assert spans._frozen({"traceparent": CONTEXT, "tracestate": "a=x] y"}) == CONTEXT


@pytest.mark.parametrize(
    "before", ["sys.modules['opentelemetry'] = None", "import opentelemetry.trace"]
)
def test_without_a_tracer_provider_nothing_is_traced(before: str) -> None:
    code = (
        f"import sys\n{before}\nimport callbacks\n"
        "from callbacks import telemetry\n"
        "with telemetry.enqueueing('shop', masks_paths=False) as traced: pass\n"
        "print(type(traced).__name__, 'callbacks.telemetry.spans' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={}
    )
    assert done.stdout == "Enqueueing False\n"


def test_the_tracer_provider_of_the_process_is_used() -> None:
    code = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from callbacks import telemetry
trace.set_tracer_provider(TracerProvider(shutdown_on_exit=False))
with trace.get_tracer("app").start_as_current_span("order") as parent:
    with telemetry.enqueueing("shop", masks_paths=False) as traced: pass
print(traced.context.split("-")[1] == f"{parent.get_span_context().trace_id:032x}")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


@pytest.mark.parametrize(
    ("environ", "traces", "metrics"),
    [
        ({}, False, False),
        ({"OTEL_SERVICE_NAME": "x"}, False, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, True, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, False, False),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, True, False),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://c:4318/v1/metrics"}, False, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True, False),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_METRICS_EXPORTER": "none"},
            True,
            False,
        ),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_SDK_DISABLED": "TRUE"},
            False,
            False,
        ),
    ],
)
def test_the_standard_variables_switch_it_on(
    environ: dict[str, str], traces: bool, metrics: bool
) -> None:
    assert sdk.signals(environ) == sdk.Signals(traces, metrics)


def test_a_protocol_that_is_not_supported_is_named() -> None:
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
    }
    problem = "OTEL_EXPORTER_OTLP_PROTOCOL is 'grpc', expected http/protobuf"
    assert sdk.signals(environ) == sdk.Signals(problem=problem)


@pytest.mark.parametrize(
    ("given", "seconds"), [(None, 60), ("1500", 1.5), ("soon", 60), ("0", 60), ("-1", 60)]
)
def test_the_interval_of_metrics_is_the_standard_one(given: str | None, seconds: float) -> None:
    environ = {} if given is None else {"OTEL_METRIC_EXPORT_INTERVAL": given}
    assert sdk.export_interval_s(environ) == seconds


def test_the_service_is_callbacks_unless_the_environment_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert sdk.resource({}).attributes["service.name"] == "callbacks"
    for name, value in (
        ("OTEL_SERVICE_NAME", "shop"),
        ("OTEL_RESOURCE_ATTRIBUTES", "service.name=shop,a=b"),
    ):
        with monkeypatch.context() as patched:
            patched.setenv(name, value)
            assert sdk.resource().attributes["service.name"] == "shop"
