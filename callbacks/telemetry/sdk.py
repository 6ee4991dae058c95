"""OpenTelemetry in our own processes, configured by its standard environment variables.

An application that enqueues configures it itself, and so may one whose modules a worker loads: a
tracer provider that is already there is used as it is.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from callbacks.log import log
from callbacks.version import __version__

_SERVICE: Final = "callbacks"
_PROTOCOL: Final = "http/protobuf"
_INTERVAL: Final = "OTEL_METRIC_EXPORT_INTERVAL"
_INTERVAL_MS: Final = 60_000
#: How long a process that ends waits for its last spans to be taken.
FLUSH_S: Final = 3.0
MISSING: Final = (
    "OpenTelemetry is configured but not installed: install callbacks with its extra [otel], or set"
    " OTEL_SDK_DISABLED=true"
)


@dataclass(frozen=True, slots=True)
class Signals:
    """What the environment asks to export. `problem`: why something asked for cannot be."""

    traces: bool = False
    metrics: bool = False
    problem: str = ""


def signals(environ: Mapping[str, str] | None = None) -> Signals:
    """Read what is asked for: a signal whose exporter is `otlp`, or that has an endpoint."""
    given = os.environ if environ is None else environ
    if given.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return Signals()
    asked = {signal for signal in ("TRACES", "METRICS") if _is_asked_for(given, signal)}
    problems = {signal: _protocol_problem(given, signal) for signal in sorted(asked)}
    return Signals(
        traces=problems.get("TRACES") == "",
        metrics=problems.get("METRICS") == "",
        problem=next(filter(None, problems.values()), ""),
    )


def _is_asked_for(given: Mapping[str, str], signal: str) -> bool:
    if exporters := given.get(f"OTEL_{signal}_EXPORTER", "").strip():
        return "otlp" in exporters.split(",")
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
    return any(given.get(name, "").strip() for name in endpoints)


def _protocol_problem(given: Mapping[str, str], signal: str) -> str:
    names = (f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    name = next((name for name in names if given.get(name, "").strip()), "")
    if not name or given[name].strip() == _PROTOCOL:
        return ""
    return f"{name} is {given[name]!r}, expected {_PROTOCOL}"


def export_interval_s(environ: Mapping[str, str] | None = None) -> float:
    """How often metrics are exported: a minute, unless the environment says otherwise."""
    given = (os.environ if environ is None else environ).get(_INTERVAL, "").strip()
    try:
        interval_ms = float(given or _INTERVAL_MS)
    except ValueError:
        interval_ms = 0.0
    return (interval_ms if interval_ms > 0 else _INTERVAL_MS) / 1_000


class Traces:
    """The spans of this process, from `start` to `end`."""

    def __init__(self) -> None:
        self._provider: Any = None

    def start(self, asked: Signals) -> None:
        """Export spans if that is asked for; call it after the process was forked.

        What is wrong is logged: it stops nobody from working.
        """
        if asked.problem:
            log.warning("telemetry", problem=asked.problem)
        if not asked.traces:
            return
        try:
            self._provider = _provider()
        except ImportError:
            log.warning("telemetry", problem=MISSING)

    def end(self) -> None:
        """Export the last spans, for at most `FLUSH_S`: a collector that is away stops no exit."""
        provider, self._provider = self._provider, None
        if provider is not None:
            ending = threading.Thread(target=provider.shutdown, name="callbacks-spans", daemon=True)
            ending.start()
            ending.join(FLUSH_S)


def _provider() -> Any:
    """Make the process's tracer provider; None if it has one already."""
    from opentelemetry import trace  # noqa: PLC0415 - the extra
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
        OTLPSpanExporter,
    )
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    if isinstance(trace.get_tracer_provider(), TracerProvider):
        return None
    # Without `shutdown_on_exit` the end is ours, which is bounded.
    provider = TracerProvider(resource=resource(), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return provider


def resource(environ: Mapping[str, str] | None = None) -> Any:
    """Who tells: the environment says, or else the service is `callbacks`."""
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - the extra

    given = os.environ if environ is None else environ
    named = given.get("OTEL_SERVICE_NAME") or "service.name=" in given.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    )
    ours = {"service.name": _SERVICE, "service.version": __version__}
    return Resource.create({} if named else ours)
