"""A TCP proxy in front of a Redis server that swallows selected replies.

The command is executed but its reply never arrives, as when a connection breaks in between.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from types import TracebackType

from callbacks.batcher.scripts import VERBS


def _mark(verb: str) -> bytes:
    """The bytes that identify a call of this script."""
    return b"EVALSHA\r\n$40\r\n" + VERBS[verb].sha.encode() + b"\r\n"


class Proxy:
    """Forwards from a free loopback port to the server's."""

    def __init__(self, server_port: int) -> None:
        self.swallowed = 0
        self._server_port = server_port
        self._mark, self._left, self._hang = b"", 0, False
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"

    def swallow(self, verb: str, *, times: int = 1, hang: bool = False) -> None:
        """Swallow the replies to the next calls of `verb` by any client.

        The connection is then closed, or left hanging.
        """
        with self._lock:
            self._mark, self._left, self._hang = _mark(verb), times, hang

    def forward_to(self, server_port: int) -> None:
        """Forward new connections to another server; open ones stay with the old one."""
        self._server_port = server_port

    def sees(self, request: bytes) -> bool:
        """Whether the reply to a request has to be swallowed."""
        with self._lock:
            return self._left > 0 and self._mark in request

    def takes(self, reply: bytes) -> bool:
        """Whether to swallow a reply, which is then counted. Errors pass: they changed nothing."""
        with self._lock:
            if not self._left or reply.startswith(b"-"):
                return False
            self._left -= 1
            self.swallowed += 1
            return True

    @property
    def hangs(self) -> bool:
        return self._hang

    def __enter__(self) -> Proxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # else one more connection is accepted
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        address = ("127.0.0.1", self._server_port)
        with contextlib.suppress(OSError), client, socket.create_connection(address) as server:
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _Link(self, client, server).forward()


class _Link:
    """One connection, whose client waits for each reply before its next request."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self.proxy, self.client, self.server = proxy, client, server
        self.request, self.silent = b"", False

    def forward(self) -> None:
        """Forward until one side closes, or a reply is swallowed."""
        going = True
        while going:
            ready, _, _ = select.select([self.client, self.server], [], [])
            if self.client in ready:
                going = self._request()
            if self.server in ready:
                going = self._reply() and going

    def _request(self) -> bool:
        data = self.client.recv(65_536)
        self.request += data
        self.server.sendall(data)
        return data != b""

    def _reply(self) -> bool:
        data = self.server.recv(65_536)
        if data and self.proxy.sees(self.request) and self.proxy.takes(data):
            self.silent = self.proxy.hangs
            return self.silent
        self.request = b""
        if not self.silent:
            self.client.sendall(data)
        return data != b""
