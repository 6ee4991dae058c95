"""A listener in place of an unreachable Redis: refuses and counts all connections."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType


class Refusals:
    """Closes each connection to a loopback port at once, as a server does that is shutting down."""

    def __init__(self, port: int) -> None:
        self.count = 0
        self._listener = socket.create_server(("127.0.0.1", port), backlog=128)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.count += 1
                client.close()

    def __enter__(self) -> Refusals:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread in `accept`
        self._listener.close()
        self._thread.join(10)
