"""Passes requests on to an application, and its answers back."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import Future
from typing import Final
from urllib.parse import urlsplit

import urllib3

from callbacks.cli.receiver.exchange import Hit, Response

_PATIENCE_S: Final = 60.0
#: Of a connection (RFC 9110, section 7.6.1), or set anew for each.
_NOT_PASSED_ON: Final = {
    "connection", "content-length", "host", "keep-alive", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade",
}  # fmt: skip


class Forward:
    """Sends each hit to a URL; one without a path gets the paths of the hits."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"{url!r} is not a URL; expected http://host:port/path")
        self._url = url.rstrip("/")
        self._keeps_path = parts.path in {"", "/"}
        self._pool = urllib3.PoolManager(retries=False, timeout=_PATIENCE_S)

    def send(self, hit: Hit) -> Future[Response]:
        """Send it in another thread; the future's result is what to answer, 502 for no answer."""
        answer: Future[Response] = Future()
        threading.Thread(target=self._send, args=(hit, answer), daemon=True).start()
        return answer

    def _send(self, hit: Hit, answer: Future[Response]) -> None:
        try:
            answer.set_result(self._answer(hit))
        except Exception as error:  # noqa: BLE001 - whatever it raises, there was no answer
            text = f"no answer from the application: {error}"
            answer.set_result(Response(502, body=text.encode()))

    def _answer(self, hit: Hit) -> Response:
        reply = self._pool.request(
            hit.method,
            self._url + hit.path if self._keeps_path else self._url,
            body=hit.body,
            headers=dict(_passed_on(hit.headers.items())),
            redirect=False,
            decode_content=False,
        )
        return Response(reply.status, _passed_on(reply.headers.items()), reply.data)


def _passed_on(headers: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in headers if name.lower() not in _NOT_PASSED_ON)
