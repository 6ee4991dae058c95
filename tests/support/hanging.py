"""Receivers that hang, on many loopback addresses."""

from __future__ import annotations

import selectors
import socket
import threading
from contextlib import ExitStack
from types import TracebackType
from typing import Final

#: Where a receiver hangs: while connecting, in the TLS handshake, before the head of its answer,
#: in its body.
PLACES: Final = ("connect", "tls", "head", "body")
_HEAD: Final = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nand then"


class Hanging:
    """Listens on all loopback addresses, with one port for each place where it can hang."""

    def __init__(self) -> None:
        self._sockets = {place: _listening(place) for place in PLACES}
        self._ports = {place: each.getsockname()[1] for place, each in self._sockets.items()}
        self._full = [_connecting(self._ports["connect"]) for _ in range(3)]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def url(self, n: int, place: str) -> str:
        """The URL of the n-th host, of up to 16,000; each is a separate destination."""
        scheme = "https" if place == "tls" else "http"
        return f"{scheme}://127.1.{n // 250}.{n % 250 + 1}:{self._ports[place]}/"

    def _accept(self) -> None:
        with selectors.DefaultSelector() as ready, ExitStack() as kept:
            for place in ("tls", "head", "body"):
                ready.register(self._sockets[place], selectors.EVENT_READ, place)
            while not self._stop.is_set():
                for key, _ in ready.select(timeout=0.1):
                    connection, _ = self._sockets[key.data].accept()
                    kept.enter_context(connection)
                    if key.data == "body":
                        connection.sendall(_HEAD)

    def __enter__(self) -> Hanging:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        for each in (*self._sockets.values(), *self._full):
            each.close()


def _listening(place: str) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("0.0.0.0", 0))
    listener.listen(0 if place == "connect" else 1_024)
    return listener


def _connecting(port: int) -> socket.socket:
    """Fill the queue of a listener that never accepts, so that later connections hang."""
    sock = socket.socket()
    sock.setblocking(False)
    sock.connect_ex(("127.0.0.1", port))
    return sock
