"""A receiver for the process tier: plain threads, counts every request, answers as told."""

from __future__ import annotations

import socket
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import Any, Final, NamedTuple

#: Instead of a status: the connection is reset.
RESET: Final = 0


class Hit(NamedTuple):
    at: float
    id: str
    attempt: int
    path: str
    headers: dict[str, str]
    body: bytes


class _Server(ThreadingHTTPServer):
    request_queue_size = 512
    daemon_threads = True
    hits: list[Hit]
    answer: Callable[[Hit, int], int]
    headers: dict[str, str]

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._lock, self._seen = threading.Lock(), Counter[str]()

    def record(self, hit: Hit) -> int:
        """Keep a request; the how many-eth it is for its id."""
        with self._lock:
            self.hits.append(hit)
            self._seen[hit.id] += 1
            return self._seen[hit.id]

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # a killed sender is no news
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_POST(self) -> None:
        at = time.monotonic()
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        hit = Hit(
            at, headers["webhook-id"], int(headers["webhook-attempt"]), self.path, headers, body
        )
        status = self.server.answer(hit, self.server.record(hit))
        if status == RESET:
            self._reset()
            return
        self.send_response(status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.send_header("content-length", "0")
        self.end_headers()

    def _reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def log_message(self, format: str, *args: object) -> None:
        pass


class Target:
    """A receiver on a free loopback port; `answer(hit, nth)` is the status of an nth request."""

    def __init__(
        self,
        answer: Callable[[Hit, int], int] = lambda hit, nth: 200,
        *,
        headers: dict[str, str] | None = None,
    ) -> None:
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.hits, self._server.answer = [], answer
        self._server.headers = headers or {}
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/hook"

    @property
    def hits(self) -> list[Hit]:
        return list(self._server.hits)

    def counts(self) -> Counter[str]:
        return Counter(hit.id for hit in self.hits)

    def gaps_ms(self) -> list[float]:
        times = sorted(hit.at for hit in self.hits)
        return sorted((y - x) * 1000 for x, y in pairwise(times))

    def __enter__(self) -> Target:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
