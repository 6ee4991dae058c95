"""A socket whose operations never outlast the attempt.

Each operation gets the time that is left, so a receiver that drips bytes gains nothing. (A
watchdog that shuts sockets down could hit one that already serves another request.) The timeouts
of `ssl` and `socket` bound a whole call (a handshake, a record), however many packets it takes;
only loops over calls could run on, and all of them are here.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from typing import Final

from urllib3.util.wait import wait_for_read

from callbacks.delivery.deadline import Deadline, Limits

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
        # Not after a TLS handshake: then there are session tickets to read.
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
            self._sock = sock = context.wrap_socket(
                self._sock, server_hostname=hostname, do_handshake_on_connect=False
            )
            sock.settimeout(min(timeout_s, self.deadline.left()))
            sock.do_handshake()
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
            self._take_a_step()
            try:
                sent = self._sock.send(rest[:_SEND_BYTES])
            except TimeoutError:
                raise self._timed_out("took no more of the request") from None
            rest = rest[sent:]

    def recv(self, size: int) -> bytes:
        """Receive up to `size` bytes; b"" at the end. Raises OSError, TimeoutError included."""
        self._take_a_step()
        try:
            received = self._sock.recv(size)
        except TimeoutError:
            raise self._timed_out("sent nothing") from None
        self._expects_silence = True
        return received

    def has_input(self) -> bool:
        """Whether a read would return at once, with bytes, the end or an error."""
        if isinstance(self._sock, ssl.SSLSocket) and self._sock.pending():
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

    def _take_a_step(self) -> None:
        """Set the timeout of the next call, if it differs: setting it is a system call."""
        time_s = min(self._read_s, self.deadline.left())
        if self._sock.gettimeout() != time_s:
            self._sock.settimeout(time_s)

    def _timed_out(self, what: str) -> TimeoutError:
        self.deadline.left()  # raises if it was the deadline that passed
        return TimeoutError(f"the receiver {what} for {self._read_s:g} s")
