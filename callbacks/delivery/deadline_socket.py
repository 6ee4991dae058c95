"""A socket whose operations never outlast the attempt.

No watchdog shuts sockets down from outside, so none can shut down one that has passed on to
another request: each single operation gets the time that is left, whoever drips bytes at us.
Each is bounded as a whole, a handshake or a record of TLS too, however many packets it takes.
A timeout of Python's `ssl` does that, one of gevent's starts again with each packet; so a socket
with TLS never blocks, and what it waits for is waited for here.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import time
from collections.abc import Callable
from typing import Final, TypeVar

from urllib3.util.wait import wait_for_read, wait_for_write

from callbacks.delivery.deadline import Deadline, Limits

_T = TypeVar("_T")

_SEND_BYTES: Final = 65_536
_LINGER_NOT: Final = struct.pack("ii", 1, 0)


class HandshakeFailed(OSError):
    """The connection ended during the TLS handshake."""


class DeadlineSocket:
    """Sends and receives within the limits of the current attempt; owns the real socket.

    `spoke_early`: the receiver sent something before it had the whole request. It may read the
    rest later and take it for another request.
    """

    def __init__(self, sock: socket.socket, limits: Limits) -> None:
        self.spoke_early = False
        self._sock = sock
        self._tls: ssl.SSLSocket | None = None
        # After a TLS handshake the receiver's session tickets are waiting to be read.
        self._expects_silence = True
        self.begin(limits)

    def begin(self, limits: Limits) -> None:
        """Start another attempt on this socket."""
        self.deadline: Deadline = limits.deadline
        self._read_s = limits.read_s
        self._is_sending = False

    def handshake(self, context: ssl.SSLContext, hostname: str, timeout_s: float) -> None:
        """Switch to TLS; raises HandshakeFailed, ssl.SSLError and TimeoutError."""
        self._expects_silence = False
        try:
            self._sock = self._tls = tls = context.wrap_socket(
                self._sock, server_hostname=hostname, do_handshake_on_connect=False
            )
            tls.settimeout(0)
            _within(min(timeout_s, self.deadline.left()), tls, tls.do_handshake)
        except TimeoutError:
            raise TimeoutError("the TLS handshake did not end in time") from None
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            raise HandshakeFailed("the receiver broke off the TLS handshake") from None
        except ssl.SSLError:
            raise
        except OSError:
            raise HandshakeFailed("the receiver broke off the TLS handshake") from None

    def sendall(self, data: bytes) -> None:
        """Send all of it, or raise OSError, TimeoutError included."""
        rest = memoryview(data)
        while rest:
            if self._is_sending and self._expects_silence and wait_for_read(self._sock, 0):
                self.spoke_early = True
            self._is_sending = True
            try:
                sent = self._send(rest[:_SEND_BYTES])
            except TimeoutError:
                raise self._timed_out("took no more of the request") from None
            rest = rest[sent:]

    def recv(self, size: int) -> bytes:
        """Up to `size` bytes; b"" at the end. Raises OSError, TimeoutError included."""
        try:
            received = self._recv(size)
        except TimeoutError:
            raise self._timed_out("sent nothing") from None
        self._expects_silence = True
        return received

    def has_input(self) -> bool:
        """Whether reading would not wait: bytes, an end or an error are there."""
        if self._tls and self._tls.pending():
            return True
        return wait_for_read(self._sock, 0)

    def give_up_sending(self) -> None:
        """Make `close` drop what the kernel has not sent yet: half a request is of no use.

        A receiver that reads nothing could keep it in memory for as long as it likes.
        """
        self.spoke_early = self.has_input()
        with contextlib.suppress(OSError):
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)

    def close(self) -> None:
        self._sock.close()

    def _send(self, data: memoryview) -> int:
        time_s = min(self._read_s, self.deadline.left())
        if tls := self._tls:
            return _within(time_s, tls, lambda: tls.write(data))
        self._set_timeout(time_s)
        return self._sock.send(data)

    def _recv(self, size: int) -> bytes:
        time_s = min(self._read_s, self.deadline.left())
        if tls := self._tls:
            return _within(time_s, tls, lambda: tls.read(size))
        self._set_timeout(time_s)
        return self._sock.recv(size)

    def _set_timeout(self, time_s: float) -> None:
        """Give the next call on the socket its time; telling the socket so is a system call."""
        if self._sock.gettimeout() != time_s:
            self._sock.settimeout(time_s)

    def _timed_out(self, what: str) -> TimeoutError:
        self.deadline.left()  # raises if it was the deadline that passed
        return TimeoutError(f"the receiver {what} for {self._read_s:g} s")


def _within(time_s: float, tls: ssl.SSLSocket, operation: Callable[[], _T]) -> _T:
    """Carry out an operation on a socket that does not block; raises TimeoutError."""
    ends_at = time.monotonic() + time_s
    while True:
        try:
            return operation()
        except ssl.SSLWantReadError:
            wait = wait_for_read
        except ssl.SSLWantWriteError:
            wait = wait_for_write
        if not wait(tls, max(0.0, ends_at - time.monotonic())):
            raise TimeoutError
