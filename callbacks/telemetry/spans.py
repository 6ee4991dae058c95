"""Spans by the semantic conventions of OpenTelemetry, for messaging and HTTP clients.

An enqueue is a PRODUCER span, whose context travels with the frozen request. Each attempt is a
CONSUMER span linked to it, with a CLIENT span for its POST. No span has a query, user info, header
values, a body or a secret.

The process's tracer provider decides what becomes of them; without one they cost little.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import TracebackType
from typing import Final, Self

from opentelemetry import trace
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, Tracer, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from callbacks.model import PARTS_BEFORE, Answer, InvalidCallback, Request
from callbacks.request.urls import display_url, masked, read_url
from callbacks.telemetry import HEADERS, Attempting, Enqueueing
from callbacks.units import ms
from callbacks.version import __version__

_W3C: Final = TraceContextTextMapPropagator()
#: What we do, as `messaging.operation.name`, with its `messaging.operation.type`.
_ENQUEUE: Final = ("enqueue", "send")
_DELIVER: Final = ("deliver", "process")


@lru_cache(maxsize=1)
def _tracer_of(provider: TracerProvider) -> Tracer:
    return provider.get_tracer("callbacks", __version__)


def _tracer() -> Tracer:
    return _tracer_of(trace.get_tracer_provider())


def _messaging(operation: tuple[str, str], namespace: str) -> dict[str, str | int | bool]:
    name, kind = operation
    return {
        "messaging.system": "callbacks",
        "messaging.operation.name": name,
        "messaging.operation.type": kind,
        "messaging.destination.name": namespace,
    }


def _context_of(span: Span) -> dict[str, str]:
    """The headers of a span's context; empty if it has none."""
    carrier: dict[str, str] = {}
    _W3C.inject(carrier, trace.set_span_in_context(span))
    return carrier


def _frozen(carrier: Mapping[str, str]) -> str:
    """Headers as a frozen request holds them. What its reader would mistake is left out."""
    values = [carrier[name] for name in HEADERS if name in carrier]
    return " ".join(value for value in values if "]" not in value and value.isprintable())


def _link(context: str) -> list[Link]:
    """The link to the span whose context a frozen request holds."""
    carrier = dict(zip(HEADERS, context.split(" ", 1), strict=False))
    found = trace.get_current_span(_W3C.extract(carrier)).get_span_context()
    return [Link(found)] if context and found.is_valid else []


def _failed(span: Span, kind: str, description: str | None = None) -> None:
    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR, description or None))


class TracedEnqueueing(Enqueueing):
    """A PRODUCER span. All callbacks of an `enqueue_many` have the same context."""

    def __init__(self, namespace: str, masks_paths: bool) -> None:
        self._namespace, self._masks_paths = namespace, masks_paths

    def __enter__(self) -> Self:
        """Begin the span."""
        self._span = _tracer().start_span(
            f"enqueue {self._namespace}",
            kind=SpanKind.PRODUCER,
            attributes=_messaging(_ENQUEUE, self._namespace),
        )
        self.context = _frozen(_context_of(self._span))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End it; of an error it has the class alone."""
        if kind is not None:
            description = error.field if isinstance(error, InvalidCallback) else None
            _failed(self._span, kind.__qualname__, description)
        self._span.end()

    def stored(self, id: str, destination: str, *, accepted: bool) -> None:
        """Note the callback."""
        self._span.set_attributes(
            {
                "messaging.message.id": id,
                "callbacks.destination": _shown(destination, self._masks_paths),
                "callbacks.accepted": accepted,
            }
        )

    def stored_many(self, count: int) -> None:
        """Note the size of the batch."""
        self._span.set_attribute("messaging.batch.message_count", count)


class TracedAttempting(Attempting):
    """A CONSUMER span with a CLIENT span below it, whose context goes out with the request."""

    def __init__(
        self,
        request: Request,
        *,
        namespace: str,
        id: str,
        attempt: int,
        sends_context: bool,
        masks_paths: bool,
    ) -> None:
        super().__init__()
        tracer = _tracer()
        self._span = tracer.start_span(
            f"deliver {namespace}",
            kind=SpanKind.CONSUMER,
            links=_link(request.trace),
            attributes=_messaging(_DELIVER, namespace)
            | {
                "messaging.message.id": id,
                "messaging.message.body.size": len(request.body),
                "callbacks.destination": _shown(request.destination, masks_paths),
                "callbacks.attempt": attempt,
            },
        )
        self._post = tracer.start_span(
            "POST",
            trace.set_span_in_context(self._span),
            kind=SpanKind.CLIENT,
            attributes=_http(request, attempt, masks_paths),
        )
        if sends_context:
            self.headers = _context_of(self._post)
        context = self._span.get_span_context()
        self.trace_id = trace.format_trace_id(context.trace_id) if context.is_valid else None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End both spans, whatever happened."""
        for span in (self._post, self._span):
            if span.is_recording():
                if kind is not None:
                    _failed(span, kind.__qualname__)
                span.end()

    def answered(self, answer: Answer) -> None:
        """End the CLIENT span."""
        post = self._post
        if answer.status is None:
            _failed(post, str(answer.fault), answer.detail)
        else:
            post.set_attribute("http.response.status_code", answer.status)
            if answer.status >= 400:
                _failed(post, str(answer.status))
        if answer.steps is not None:
            *steps, reused = answer.steps
            for name, took in zip(answer.steps._fields, steps, strict=False):
                if took:
                    post.set_attribute(f"callbacks.{name}", took)
            if reused is not None:
                post.set_attribute("callbacks.connection_reused", reused)
        post.end()

    def ended(
        self,
        answer: Answer,
        waits: tuple[int, ...],
        *,
        outcome: str,
        reason: str | None,
        state: str,
    ) -> None:
        """Note the outcome, and what the callback had waited for."""
        all_ms = (*waits, ms(answer.resolver))
        parts = zip(PARTS_BEFORE, all_ms, strict=True)
        self._span.set_attributes(
            {"callbacks.outcome": outcome, "callbacks.state": state}
            | {"callbacks.waited": sum(all_ms) / 1_000}
            | {f"callbacks.{part}": took / 1_000 for part, took in parts if took}
        )
        if reason is not None:
            _failed(self._span, reason)


def _shown(text: str, masks_paths: bool) -> str:
    """A destination or URL, with a digest for its path if that may be the secret."""
    return masked(text) if masks_paths else text


def _http(request: Request, attempt: int, masks_paths: bool) -> dict[str, str | int | bool]:
    """What is known of a request before it is sent."""
    url = read_url(request.callback_url)
    known: dict[str, str | int | bool] = {
        "http.request.method": "POST",
        "server.address": url.host.strip("[]"),
        "server.port": url.port,
        "url.full": _shown(display_url(request.callback_url), masks_paths),
        "network.protocol.version": "1.1",
    }
    return known | {"http.request.resend_count": attempt - 1} if attempt > 1 else known
