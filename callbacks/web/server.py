"""The HTTP server of `callbacks web`, which closes idle connections to make room for new ones."""

from __future__ import annotations

from typing import Any, Final

from waitress.channel import HTTPChannel
from waitress.server import TcpWSGIServer

#: Fewer than the file descriptors that any system allows a process, and enough for monitoring.
MAX_CONNECTIONS: Final = 100
MAX_BODY_BYTES: Final = 65_536
#: Most of them wait for the one that reads Redis.
_THREADS: Final = 4


class Server(TcpWSGIServer):
    """Waitress, which accepts new connections even at its connection limit.

    Otherwise, clients that connect and send no complete request could block it for two minutes.
    Instead, each new connection closes the oldest one without a request.
    """

    # The type stubs declare the first wrongly, and lack the second.
    active_channels: dict[int, HTTPChannel]  # type: ignore[assignment]
    effective_port: str

    def __init__(self, application: Any, *, host: str, port: int) -> None:
        """Listen; raises OSError if it cannot."""
        super().__init__(
            application,
            host=host,
            port=port,
            threads=_THREADS,
            ident="callbacks",
            max_request_body_size=MAX_BODY_BYTES,
            asyncore_use_poll=True,
            connection_limit=2 * MAX_CONNECTIONS,  # never reached
            # Whoever connects may be a router: it says how its client came (`https`), and adds
            # the client's address as the last. Whoever comes without one can only mislead itself.
            trusted_proxy="*",
            trusted_proxy_headers="x-forwarded-for x-forwarded-proto",
        )

    def handle_accept(self) -> None:
        """Accept one connection; the one closed for it goes in the next turn of the loop."""
        self._make_room()
        super().handle_accept()

    def _make_room(self) -> None:
        staying = [each for each in self.active_channels.values() if not each.will_close]
        if len(staying) < MAX_CONNECTIONS:
            return
        for each in staying:  # oldest first
            if not each.requests:
                each.will_close = True
                return
