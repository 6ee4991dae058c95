"""Asserts that a callback was delivered; if not, says what happened instead."""

from __future__ import annotations

import difflib
import json
import pprint
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

from callbacks import admin
from callbacks.batcher.inspector import Status
from callbacks.model import State
from callbacks.request.envelope import body_of
from callbacks.request.urls import normal_url
from callbacks.runtime import runtime
from callbacks.testing.app import CallbacksApp
from callbacks.testing.current import current
from callbacks.testing.requests import Attempted

#: Most of a kind that a message lists.
_MOST: Final = 5
_WIDTH: Final = 88


class _Anything:
    def __repr__(self) -> str:
        return "..."


ANYTHING: Final = _Anything()


def assert_delivered(
    url: str,
    *,
    event: object = ANYTHING,
    data: Any = ANYTHING,
    id: object = ANYTHING,
) -> Attempted:
    """Assert that a callback was answered 2xx at this URL; returns the last such attempt.

    What is not given may be anything. `data` is compared as JSON has it. Raises `AssertionError`,
    which tells what came near, and `RuntimeError` where the test has no `callbacks_app`.
    """
    __tracebackhide__ = True
    app = current(CallbacksApp)
    wanted = _Wanted(url, event, data, id)
    found = [each for each in app.attempts if each.delivered and wanted.fits(each)]
    if not found:
        raise AssertionError("\n".join(_report(wanted, app)))
    return found[-1]


class _Wanted:
    def __init__(self, url: str, event: object, data: Any, id: object) -> None:
        self.url, self.event, self.id = normal_url(url), event, id
        self.data = data if data is ANYTHING else _as_json(data)

    def fits(self, attempt: Attempted) -> bool:
        return attempt.url == self.url and not self.differences(attempt)

    def differences(self, attempt: Attempted) -> list[str]:
        """How an attempt differs, line by line, apart from the URL."""
        lines = []
        for name in ("id", "event"):
            wanted, actual = getattr(self, name), getattr(attempt, name)
            if wanted is not ANYTHING and wanted != actual:
                lines.append(f"{name} is {actual!r}, not {wanted!r}")
        if self.data is not ANYTHING and self.data != attempt.data:
            lines += ["data differs (- expected, + delivered):", *_diff(self.data, attempt.data)]
        return lines

    def __str__(self) -> str:
        given = {"id": self.id, "event": self.event, "data": self.data}
        words = [f"{name}={value!r}" for name, value in given.items() if value is not ANYTHING]
        return f"{self.url}" + (f" with {', '.join(words)}" if words else "")


def _as_json(data: Any) -> Any:
    """Data as its receiver reads it, encoded as `enqueue` does."""
    limit = runtime().settings.max_payload_bytes
    body = body_of(data, event="x", environment="x", now=datetime.now(UTC), limit=limit)
    return json.loads(body)["data"]


def _diff(wanted: Any, actual: Any) -> list[str]:
    before, after = (pprint.pformat(each, width=_WIDTH).splitlines() for each in (wanted, actual))
    lines = difflib.ndiff(before, after)
    return [f"  {line.rstrip()}" for line in lines if not line.startswith("?")]


def _report(wanted: _Wanted, app: CallbacksApp) -> Iterator[str]:
    yield f"nothing was delivered to {wanted}"
    here = [attempt for attempt in app.attempts if attempt.url == wanted.url]
    yield from _listed(
        "delivered there, but different:",
        (_differing(wanted, attempt) for attempt in here if attempt.delivered),
    )
    yield from _listed(
        "tried there, but not delivered:",
        (_failed(attempt) for attempt in here if not attempt.delivered),
    )
    waiting = list(_waiting(wanted.url))
    yield from _listed("enqueued for it, but not sent (yet?):", iter(waiting))
    others = Counter(attempt.url for attempt in app.attempts if attempt.url != wanted.url)
    yield from _listed(
        "requests to other URLs:", ([f"{url} ({count})"] for url, count in others.most_common())
    )
    if not app.attempts:
        yield "  no request was made; did the test call deliver_all()?"


def _listed(title: str, found: Iterable[list[str]]) -> Iterator[str]:
    """A title and what it is about, at most `_MOST`; nothing if there is nothing."""
    several = list(found)
    if several:
        yield f"  {title}"
    for first, *more in several[:_MOST]:
        yield f"    {first}"
        yield from (f"      {line}" for line in more)
    if len(several) > _MOST:
        yield f"    and {len(several) - _MOST} more"


def _differing(wanted: _Wanted, attempt: Attempted) -> list[str]:
    return [f"{attempt.id}:", *wanted.differences(attempt)]


def _failed(attempt: Attempted) -> list[str]:
    result = attempt.reason.value if attempt.reason else f"answered {attempt.status}"
    detail = f" ({attempt.detail})" if attempt.detail else ""
    return [f"{attempt.id}, attempt {attempt.attempt}: {result}{detail}"]


def _waiting(url: str) -> Iterator[list[str]]:
    """What is stored for a URL and not sent, with its state."""
    for state in (State.QUEUED, State.PROCESSING, State.DEAD):
        for status in admin.iterate(state):
            if status.callback_url == url:
                yield [f"{status.id}: {_state(status)}"]


def _state(status: Status) -> str:
    words = [status.state.value]
    if status.state is State.QUEUED and not status.attempts:
        words.append("deliver_all() sends it")
    if status.reason:
        words.append(status.reason)
    if status.detail:
        words.append(status.detail)
    return ", ".join(words)
