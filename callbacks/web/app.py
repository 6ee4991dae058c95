"""`callbacks web`: metrics for Prometheus, a health check, and a status page.

It only reads, and shows only numbers: no ids, URLs, destinations or hosts. So it may be publicly
reachable, as the `web` process on Heroku is.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import redis

from callbacks.log import log
from callbacks.monitor.health import NO_REDIS, WELL
from callbacks.monitor.metrics import exposition
from callbacks.monitor.snapshot import Snapshot
from callbacks.web.page import POLICY, away, status_page

#: How long a snapshot is reused, however many requests come.
FRESH_S: Final = 1.0
_HTML: Final = "text/html; charset=utf-8"
_TEXT: Final = "text/plain; charset=utf-8"

StartResponse = Callable[[str, list[tuple[str, str]]], object]


class Latest:
    """The latest snapshot, read by one thread at a time and at most once a second.

    So the process needs one connection to Redis, and many requests cost Redis no more than one.
    """

    def __init__(
        self, read: Callable[[], Snapshot], *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._read, self._monotonic = read, monotonic
        self._lock = threading.Lock()
        self._at = -FRESH_S
        self._found: Snapshot | redis.RedisError | None = None

    def __call__(self) -> Snapshot:
        """Return it; raises redis-py's error if Redis could not be read."""
        with self._lock:
            if self._found is None or self._monotonic() - self._at >= FRESH_S:
                before, self._found = self._found, self._look()
                self._at = self._monotonic()
                _tell(before, self._found)
            found = self._found
        if isinstance(found, redis.RedisError):
            raise found
        return found

    def _look(self) -> Snapshot | redis.RedisError:
        try:
            return self._read()
        except redis.RedisError as error:
            return error


def _tell(before: object, now: Snapshot | redis.RedisError) -> None:
    """Log once that Redis became unreachable, and once that it is back."""
    was_away = isinstance(before, redis.RedisError)
    if isinstance(now, redis.RedisError) and not was_away:
        log.warning("redis_away", error=str(now))
    elif was_away and not isinstance(now, redis.RedisError):
        log.info("redis_back")


@dataclass(frozen=True, slots=True)
class WebResponse:
    """The response to one request."""

    status: str
    content_type: str
    body: bytes
    more: tuple[tuple[str, str], ...] = ()

    def headers(self) -> list[tuple[str, str]]:
        """All headers: nothing may be cached, and no script or other resource is allowed."""
        return [
            ("Content-Type", self.content_type),
            ("Content-Length", str(len(self.body))),
            ("Cache-Control", "no-store"),
            ("Content-Security-Policy", POLICY),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
            *self.more,
        ]


class App:
    """The WSGI application (PEP 3333) over a source of snapshots."""

    def __init__(self, latest: Callable[[], Snapshot]) -> None:
        self._latest = latest
        self._routes: Mapping[str, Callable[[], WebResponse]] = {
            "/": self._page,
            "/healthz": self._health,
            "/metrics": self._metrics,
        }

    def __call__(
        self, environ: Mapping[str, Any], start_response: StartResponse
    ) -> Iterable[bytes]:
        """Answer one request."""
        method = environ["REQUEST_METHOD"]
        reply = self._reply(method, environ.get("PATH_INFO", "/"))
        start_response(reply.status, reply.headers())
        return [] if method == "HEAD" else [reply.body]

    def _reply(self, method: str, path: str) -> WebResponse:
        route = self._routes.get(path)
        if route is None:
            return WebResponse("404 Not Found", _TEXT, f"try {', '.join(self._routes)}\n".encode())
        if method not in {"GET", "HEAD"}:
            return WebResponse("405 Method Not Allowed", _TEXT, b"", (("Allow", "GET, HEAD"),))
        return route()

    def _page(self) -> WebResponse:
        try:
            return WebResponse("200 OK", _HTML, status_page(self._latest()).encode())
        except redis.RedisError:
            return WebResponse("503 Service Unavailable", _HTML, away().encode())

    def _health(self) -> WebResponse:
        """Report health: 200 if work goes on or is paused, else 503."""
        try:
            found = self._latest().health
        except redis.RedisError:
            found = NO_REDIS
        status = "200 OK" if found.word in WELL else "503 Service Unavailable"
        told = {"health": found.word, "reason": found.reason, "todo": found.todo}
        body = json.dumps(told) + "\n"
        return WebResponse(status, "application/json", body.encode())

    def _metrics(self) -> WebResponse:
        """Return the metrics; if Redis cannot be read, health alone."""
        try:
            shown = self._latest()
        except redis.RedisError:
            shown = None
        return WebResponse("200 OK", *exposition(shown))
