"""A connection to a receiver, and one exchange of a request and its reply on it."""

from __future__ import annotations

import time
from typing import Final, NamedTuple

from callbacks.delivery.deadline import Deadline, Limits
from callbacks.delivery.deadline_socket import DeadlineSocket
from callbacks.delivery.reply import Reply

MAX_IDLE_S: Final = 30.0

# Past the deadline, for reading a reply that came while the request could not be sent.
GRACE_S: Final = 0.2

# For reading a body away after its head, whose verdict stands: a connection that cannot be used
# again costs one handshake, a thread that waits costs others their turn.
DRAIN_S: Final = 1.0

_RECV_BYTES: Final = 16_384


class Origin(NamedTuple):
    """What a connection is to, and may be used again for."""

    scheme: str
    host: str
    port: int


class Connection:
    """One connection to one origin, for one request at a time."""

    def __init__(self, origin: Origin, sock: DeadlineSocket) -> None:
        self.origin = origin
        self.idle_since = 0.0
        self.idle_limit_s = 0.0
        self._sock = sock

    def exchange(self, request: bytes, limits: Limits, *, body_limit: int = 0) -> Reply:
        """Send the request and return its reply, of which the head has been read.

        Raises OSError (TimeoutError and ssl.SSLError included), BadReply and HeadTooLarge.
        """
        self.idle_limit_s = 0.0
        self._sock.begin(limits)
        self._send(request)
        reply = Reply(body_limit)
        while not reply.has_head:
            self._read(reply, _RECV_BYTES)
        reply.came_at = time.monotonic()
        return reply

    def read_body(self, reply: Reply, limit: int) -> bool:
        """Read on to the end of the body, at most `limit` bytes; False if it is longer.

        Raises OSError.
        """
        if not reply.is_over and (reply.declared_bytes or 0) > limit:
            return False
        while not reply.is_over and limit > 0:
            limit -= self._read(reply, min(_RECV_BYTES, limit))
        return reply.is_over

    def finish(self, reply: Reply, limit: int = 0) -> None:
        """Read what is left of the body away where the connection can be used again after it.

        That takes `DRAIN_S` at most and never passes the attempt's deadline. `idle_limit_s` is
        0 afterwards where the connection must not be used again.
        """
        idle_s = 0.0 if self._sock.spoke_early else reply.idle_limit_s(MAX_IDLE_S)
        try:
            if idle_s and not reply.is_over:
                self._sock.deadline = self._sock.deadline.at_most(DRAIN_S)
                self.read_body(reply, limit)
        except OSError:
            return
        finally:
            reply.release()
        if reply.is_over and reply.may_keep:
            self.idle_limit_s = idle_s

    def is_fit(self, now: float) -> bool:
        """Whether another request may be sent: not idle for too long, still open, and silent."""
        return now - self.idle_since < self.idle_limit_s and not self._sock.has_input()

    def close(self) -> None:
        self._sock.close()

    def _send(self, request: bytes) -> None:
        """Send it all, or as much as is taken by a receiver that has answered meanwhile."""
        try:
            self._sock.sendall(request)
        except OSError:
            self._sock.give_up_sending()
            if not self._sock.spoke_early:
                raise
            self._sock.deadline = Deadline(GRACE_S)

    def _read(self, reply: Reply, size: int) -> int:
        data = self._sock.recv(size)
        if data:
            reply.feed(data)
        else:
            reply.end()
        return len(data)
