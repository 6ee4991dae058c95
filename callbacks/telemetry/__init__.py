"""Telemetry: spans of OpenTelemetry for enqueues and attempts, in processes that use it.

Other packages use `enqueueing` and `attempting`, which elsewhere do nothing and import nothing, and
`sdk`, which starts and ends OpenTelemetry in our own processes. It knows nothing of Redis, HTTP or
Dramatiq. The metrics are `monitor.otlp`'s.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache
from types import TracebackType
from typing import Any, Final, Self

from callbacks.model import Answer, Request

#: An application that traces has loaded it by the time it enqueues; a worker that is to, see `sdk`.
#: So have others, without any use: redis-py loads it where it is installed.
_API: Final = "opentelemetry.trace"
#: The headers of W3C Trace Context, and how a frozen request holds them: values, with a space.
HEADERS: Final = ("traceparent", "tracestate")


class _Untraced:
    """What is not traced; a traced one begins and ends spans."""

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End, perhaps with an error of ours."""


class Enqueueing(_Untraced):
    """One call of `enqueue` or `enqueue_many`, untraced. `context`: see `Request.trace`."""

    context = ""

    def stored(self, id: str, destination: str, *, accepted: bool) -> None:
        """Tell what became of one callback."""

    def stored_many(self, count: int) -> None:
        """Tell how many callbacks were stored in one call."""


class Attempting(_Untraced):
    """One attempt, untraced. `headers`: those of the trace that go out with the request.

    They are made of the `context` of the enqueue, see `Request.trace`.
    """

    trace_id: str | None = None

    def __init__(self, context: str = "") -> None:
        values = context.split(" ", 1) if context else ()
        self.headers: Mapping[str, str] = dict(zip(HEADERS, values, strict=False))

    def answered(self, answer: Answer) -> None:
        """Tell the answer: the request has ended."""

    def ended(
        self,
        answer: Answer,
        waits: tuple[int, ...],
        *,
        outcome: str,
        reason: str | None,
        state: str,
    ) -> None:
        """Tell how the attempt ended. `waits`: see `policy.timing.before`."""


_UNTRACED: Final = Attempting()


def enqueueing(namespace: str, *, masks_paths: bool) -> Enqueueing:
    """Trace an enqueue, if this process traces. `masks_paths`: as `CALLBACKS_MASK_PATHS` says."""
    spans = _spans()
    return Enqueueing() if spans is None else spans.TracedEnqueueing(namespace, masks_paths)


def attempting(
    request: Request,
    *,
    namespace: str,
    id: str,
    attempt: int,
    sends_context: bool,
    masks_paths: bool,
) -> Attempting:
    """Trace an attempt, if this process traces. `sends_context`: to the receiver, too."""
    spans = _spans()
    if spans is None:
        return Attempting(request.trace) if sends_context and request.trace else _UNTRACED
    traced: Attempting = spans.TracedAttempting(
        request,
        namespace=namespace,
        id=id,
        attempt=attempt,
        sends_context=sends_context,
        masks_paths=masks_paths,
    )
    return traced


def _spans() -> Any:
    """The module `spans`, if a tracer provider has been set in this process."""
    api: Any = sys.modules.get(_API)
    if api is None or isinstance(api.get_tracer_provider(), api.ProxyTracerProvider):
        return None
    return _loaded()


@cache
def _loaded() -> Any:
    from callbacks.telemetry import spans  # noqa: PLC0415 - needs OpenTelemetry

    return spans
