"""The HTTP server below `callbacks web`, where whoever says nothing makes room for who does."""

from __future__ import annotations

from typing import Any, Final

from waitress.channel import HTTPChannel
from waitress.server import TcpWSGIServer

#: Below the file descriptors that any system gives a process, and enough for one that looks on.
MAX_CONNECTIONS: Final = 100
_MAX_BODY_BYTES: Final = 65_536
#: They mostly wait for the one that reads Redis.
_THREADS: Final = 4


class Server(TcpWSGIServer):
    """Waitress, which accepts more although as many are connected as there may be.

    It would stop, for two minutes, if that many connect and send no whole request. Instead the
    one of them that has been connected longest is closed for each that comes.
    """

    # The stubs have one wrong and lack the other.
    active_channels: dict[int, HTTPChannel]  # type: ignore[assignment]
    effective_port: str

    def __init__(self, application: Any, *, host: str, port: int) -> None:
        """Listen; raises OSError where that cannot be."""
        super().__init__(
            application,
            host=host,
            port=port,
            threads=_THREADS,
            ident="callbacks",
            max_request_body_size=_MAX_BODY_BYTES,
            asyncore_use_poll=True,
            connection_limit=2 * MAX_CONNECTIONS,  # never reached
        )

    def handle_accept(self) -> None:
        """Accept one connection; its place becomes free in the next turn of the loop."""
        self._make_room()
        super().handle_accept()

    def _make_room(self) -> None:
        staying = [each for each in self.active_channels.values() if not each.will_close]
        if len(staying) < MAX_CONNECTIONS:
            return
        for each in staying:  # in the order in which they came
            if not each.requests:
                each.will_close = True
                return
