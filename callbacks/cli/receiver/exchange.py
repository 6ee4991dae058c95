"""One request that came in, and what to answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from typing import Any, Final, NamedTuple

_PHRASES: Final = {each.value: each.phrase for each in HTTPStatus}


class Hit(NamedTuple):
    """One request that came in; header names are in lower case.

    `at_s` is on the monotonic clock, `time_s` the unix time, both when it was complete.
    `signature_ok` is None where signatures are not checked. `headers` are parsed when they are
    first read: a benchmark does not read them.
    """

    at_s: float
    time_s: float
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    signature_ok: bool | None = None

    def __repr__(self) -> str:
        return f"Hit(at_s={self.at_s}, {self.method} {self.path}, id={self.id!r})"

    @property
    def id(self) -> str:
        """Its `webhook-id`; empty if it has none."""
        return self.headers.get("webhook-id", "")

    @property
    def attempt(self) -> int:
        """Its `webhook-attempt`; 0 if it has none."""
        return int(self.headers.get("webhook-attempt", 0))


@dataclass(frozen=True)
class Response:
    """What to answer: once the future `until` is done, and `delay_s` later.

    If that future's result is a Response, it is answered instead. `drip_s` is the time from one
    byte to the next. `drop` closes the connection instead of answering, `reset` aborts it.
    """

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    delay_s: float = 0.0
    close: bool = False
    drop: bool = False
    reset: bool = False
    drip_s: float = 0.0
    until: Future[Any] | None = None

    @cached_property
    def encoded(self) -> bytes:
        """The response as bytes."""
        lines = [f"HTTP/1.1 {self.status} {_PHRASES.get(self.status, '')}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        if self.close:
            lines.append("connection: close")
        lines.append(f"content-length: {len(self.body)}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + self.body


Behaviour = Callable[[Hit], Response]
