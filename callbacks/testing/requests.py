"""One callback's request as a test sees it: when it is enqueued, tried, or received."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import unquote

from callbacks.model import Item, Reason
from callbacks.request.freeze import unpack


@dataclass(frozen=True)
class _Request:
    """What all three have. `url` is the callback's, `body` are the bytes that are sent.

    `headers` have names in lower case.
    """

    id: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes

    @cached_property
    def _envelope(self) -> Mapping[str, Any]:
        try:
            found = json.loads(self.body)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def event(self) -> str | None:
        """The `type` of the body; None if it has none, because something else was posted."""
        return self._envelope.get("type")

    @property
    def data(self) -> Any:
        """The `data` of the body, as the receiver reads it from JSON."""
        return self._envelope.get("data")

    @property
    def environment(self) -> str | None:
        """The `environment` of the body."""
        return self._envelope.get("environment")


@dataclass(frozen=True)
class Enqueued(_Request):
    """A callback that was enqueued; `headers` are the extra ones. Times in seconds."""

    lane: str | None = None
    delay: float = 0.0
    expires_in: float = 0.0

    @classmethod
    def of(cls, item: Item) -> Enqueued:
        """Read what is on its way into the queue."""
        request = unpack(item.request)
        lane = item.destination.partition("#")[2]
        return cls(
            id=item.id,
            url=request.callback_url,
            headers={name.lower(): value for name, value in request.headers},
            body=request.body,
            lane=unquote(lane) if lane else None,
            delay=item.delay_ms / 1_000,
            expires_in=item.life_ms / 1_000,
        )

    def differs(self, other: Enqueued) -> bool:
        """Whether the same id would be a conflict: another URL, event, environment or data."""
        mine, others = (
            (each.url, each.event, each.environment, each.data) for each in (self, other)
        )
        return mine != others


@dataclass(frozen=True)
class Attempted(_Request):
    """One try to send a callback, and how it ended.

    `at`: when, by the moved clock, in seconds since 1970. `status`: what was answered; None if
    there was no answer, and `reason` tells why.
    """

    attempt: int
    at: float
    status: int | None
    reason: Reason | None = None
    detail: str = ""

    @property
    def delivered(self) -> bool:
        """Whether the receiver answered 2xx."""
        return self.status is not None and 200 <= self.status < 300


@dataclass(frozen=True)
class Received(_Request):
    """A request that came in. `verified`: its signature is valid; None if there is no secret.

    `status`: what it was answered; None if the connection was cut instead. `problem`: what is
    wrong with the signature.
    """

    path: str
    attempt: int
    verified: bool | None
    status: int | None
    problem: str = ""
