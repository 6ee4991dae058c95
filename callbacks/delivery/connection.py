"""Connections to receivers, opened to checked addresses only."""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any, Final, NamedTuple, cast

import urllib3.connection

from callbacks.delivery.deadline import Deadline
from callbacks.delivery.deadline_socket import DeadlineSocket
from callbacks.delivery.dns import Lookups
from callbacks.delivery.guard import Address, Guard
from callbacks.delivery.response import (
    BadReply,
    Head,
    HeadTooLarge,
    Reader,
    body_of,
    drain,
    idle_limit_s,
    read_head,
)

MAX_IDLE_S: Final = 30.0
MAX_ADDRESSES: Final = 4  # of one name that are tried, both families in turn

# Past the deadline, for reading a reply that came while the request could not be sent.
GRACE_S: Final = 0.2

# For reading a body away after its head, whose verdict stands: a connection that cannot be used
# again costs one handshake, a thread that waits costs others their turn.
DRAIN_S: Final = 1.0

# (address, port, timeout in seconds) -> a connected socket. It raises OSError.
Connect = Callable[[Address, int, float], socket.socket]


class Unreachable(OSError):
    """No connection to any address of the receiver; errno and strerror tell why."""


class Origin(NamedTuple):
    """What a connection is to, and may be used again for."""

    scheme: str
    host: str
    port: int


class Post(NamedTuple):
    """One request; the target stands on the request line as it is."""

    target: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Dialer:
    """All that opening a connection depends on; timeouts are seconds."""

    guard: Guard
    lookups: Lookups
    connect: Connect
    tls_context: ssl.SSLContext
    connect_timeout: float
    read_timeout: float

    def dial(self, origin: Origin, deadline: Deadline, *, proven: bool = False) -> DeadlineSocket:
        """A channel to the first address that answers, after all of them have been checked.

        `proven`: the receiver has answered lately, so its name is not looked up behind those of
        receivers that hang.

        The socket is connected to the address that was checked, so a second lookup that
        tells something else (DNS rebinding) never takes place. Raises socket.gaierror,
        BlockedAddress, TimeoutError, Unreachable, HandshakeFailed and ssl.SSLError.
        """
        found = self.lookups.addresses(origin.host, origin.port, deadline, proven=proven)
        addresses = in_turn(self.guard.check_all(found))
        sock = self._first(addresses, origin.port, deadline)
        channel = DeadlineSocket(sock, deadline, self.read_timeout)
        if origin.scheme == "https":
            try:
                channel.handshake(self.tls_context, origin.host.rstrip("."), self.connect_timeout)
            except BaseException:
                channel.close()
                raise
        return channel

    def _first(self, addresses: Sequence[Address], port: int, deadline: Deadline) -> socket.socket:
        errors: list[OSError] = []
        for address in addresses:
            try:
                return self.connect(address, port, min(self.connect_timeout, deadline.left()))
            except TimeoutError:
                errors.append(TimeoutError(f"no connection within {self.connect_timeout:g} s"))
            except OSError as error:
                errors.append(Unreachable(error.errno, error.strerror or type(error).__name__))
        raise errors[0]  # of the address that the system prefers


class HttpResponse(http.client.HTTPResponse):
    """A response whose head `response` reads: http.client takes a 103 for the final status.

    It also guesses where lengths contradict each other, and waits for ever for the end of a
    dripped head.
    """

    head: Head
    came_at: float  # when all of the head was there, on the monotonic clock
    reader: Reader

    def begin(self) -> None:
        self.reader = self.fp  # type: ignore[assignment]  # what DeadlineSocket.makefile gave
        self.head = read_head(self.reader)
        self.came_at = time.monotonic()
        self.code = self.status = self.head.status
        self.will_close = False  # so that http.client leaves closing to us

    def drain(self, limit: int) -> bool:
        """Read the body away; True where the connection may carry another request."""
        try:
            complete = drain(self.reader, body_of(self.head), limit)
        except (OSError, BadReply, HeadTooLarge):
            return False
        if complete:
            self.close()  # tells http.client that this reply has been read
        return complete


class Connection(urllib3.connection.HTTPConnection):
    """One connection to one origin, for one request at a time."""

    response_class = HttpResponse
    idle_since: float = 0.0
    idle_limit_s: float = 0.0

    def __init__(self, origin: Origin, channel: DeadlineSocket) -> None:
        super().__init__(origin.host, origin.port)
        self.origin = origin
        self.channel = channel
        self.sock = channel  # all that http.client needs of one
        self._unsent: list[bytes] = []

    def exchange(self, post: Post, deadline: Deadline) -> HttpResponse:
        """Send the request and return its reply, of which the head has been read.

        Raises OSError (TimeoutError and ssl.SSLError included), BadReply and HeadTooLarge.
        """
        self.channel.deadline = deadline
        self.idle_limit_s = 0.0
        self._send(post)
        return cast(HttpResponse, http.client.HTTPConnection.getresponse(self))

    def finish(self, reply: HttpResponse, limit: int) -> None:
        """Read the reply's body away where the connection can be used again after it.

        That takes `DRAIN_S` at most and never passes the attempt's deadline. `idle_limit_s` is
        0 afterwards where the connection must not be used again.
        """
        idle_s = idle_limit_s(reply.head, MAX_IDLE_S)
        if not idle_s or self.channel.spoke_early:
            return
        self.channel.deadline = self.channel.deadline.at_most(DRAIN_S)
        if reply.drain(limit):
            self.idle_limit_s = idle_s

    def is_fit(self, now: float) -> bool:
        """Whether another request may be sent: not idle for too long, still open, and silent."""
        return now - self.idle_since < self.idle_limit_s and not self.channel.has_input()

    def send(self, data: Any) -> None:
        """Keep head and body, which come one by one, to be sent in one piece."""
        self._unsent.append(data)

    def _send(self, post: Post) -> None:
        """Send it all, or as much as is taken by a receiver that has answered meanwhile."""
        self._unsent.clear()
        self.request("POST", post.target, body=post.body, headers=post.headers)
        try:
            self.channel.sendall(b"".join(self._unsent))
        except OSError:
            self.channel.give_up_sending()
            if not self.channel.spoke_early:
                raise
            self.channel.deadline = Deadline(GRACE_S)


class TlsConnection(Connection):
    """The same where the default port, which the Host header leaves out, is 443."""

    default_port = 443  # type: ignore[misc]  # a ClassVar of urllib3's, which mypy denies


def open_socket(address: Address, port: int, timeout_s: float) -> socket.socket:
    """A socket connected to exactly this address; raises OSError, TimeoutError included."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout_s)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.connect((str(address), port))
    except BaseException:
        sock.close()
        raise
    return sock


def in_turn(addresses: Sequence[Address]) -> list[Address]:
    """The first few, families in turn: with one of them broken the other is reached in time.

    See RFC 8305, section 4.
    """
    preferred = [each for each in addresses if each.version == addresses[0].version]
    others = [each for each in addresses if each.version != addresses[0].version]
    turns = chain.from_iterable(zip_longest(preferred, others))
    return [each for each in turns if each is not None][:MAX_ADDRESSES]


def connection_to(origin: Origin, channel: DeadlineSocket) -> Connection:
    kind = TlsConnection if origin.scheme == "https" else Connection
    return kind(origin, channel)
