"""A connection to a receiver, and the exchange of a request and its reply on it."""

from __future__ import annotations

import time
from typing import Final, NamedTuple

from callbacks.delivery.deadline import Deadline, Limits, Step
from callbacks.delivery.deadline_socket import DeadlineSocket
from callbacks.delivery.reply import Reply

MAX_IDLE_S: Final = 30.0

# Time past the deadline for reading a reply that came before the request was fully sent.
GRACE_S: Final = 0.2

# Time for discarding a body after the head has decided the outcome. A connection that is not
# reused costs one handshake; a thread that waits holds up other callbacks.
DRAIN_S: Final = 1.0

_RECV_BYTES: Final = 16_384


class Origin(NamedTuple):
    """What a connection leads to; it may be reused for the same origin."""

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
        """Send the request and return its reply, read up to the end of the head.

        Raises OSError (TimeoutError and ssl.SSLError included), BadReply and HeadTooLarge.
        """
        self.idle_limit_s = 0.0
        self._sock.begin(limits)
        limits.watch.enter(Step.REQUEST)
        self._send(request)
        limits.watch.enter(Step.ANSWER)
        reply = Reply(body_limit)
        self._read(reply, _RECV_BYTES)
        limits.watch.enter(Step.REST)
        while not reply.has_head:
            self._read(reply, _RECV_BYTES)
        reply.came_at = time.monotonic()
        return reply

    def read_body(self, reply: Reply, limit: int) -> bool:
        """Read the rest of the body, at most `limit` bytes; False if it is longer.

        Raises OSError.
        """
        if not reply.is_over and (reply.declared_bytes or 0) > limit:
            return False
        while not reply.is_over and limit > 0:
            limit -= self._read(reply, min(_RECV_BYTES, limit))
        return reply.is_over

    def read_start(self, reply: Reply, size: int) -> None:
        """Read the first `size` bytes of the body, or as many as come within `DRAIN_S`."""
        self._sock.deadline = self._sock.deadline.at_most(DRAIN_S)
        try:
            while not reply.is_over and len(reply.body) < size:
                self._read(reply, _RECV_BYTES)
        except OSError:
            reply.skip_body()

    def finish(self, reply: Reply, limit: int = 0) -> None:
        """Discard the rest of the body, if the connection can be reused after it.

        Takes at most `DRAIN_S` and never passes the attempt's deadline. Afterwards, `idle_limit_s`
        is 0 if the connection must not be reused.
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
        """Whether it may be reused: not idle for too long, still open, and nothing to read."""
        return now - self.idle_since < self.idle_limit_s and not self._sock.has_input()

    def close(self) -> None:
        self._sock.close()

    def _send(self, request: bytes) -> None:
        """Send all of it, or as much as a receiver accepts that answers before the end."""
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
