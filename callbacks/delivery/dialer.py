"""Opens connections, only to addresses that the guard has checked."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Final

from callbacks.delivery.connection import Connection, Origin
from callbacks.delivery.deadline import Limits, Step
from callbacks.delivery.deadline_socket import DeadlineSocket
from callbacks.delivery.dns import Lookups
from callbacks.delivery.guard import Address, Guard

MAX_ADDRESSES: Final = 4  # tried per name, alternating between IPv4 and IPv6

# (address, port, timeout in seconds) -> a connected socket. It raises OSError.
Connect = Callable[[Address, int, float], socket.socket]


class Unreachable(OSError):
    """No connection to the receiver; errno and strerror say why."""


class ConnectTimedOut(TimeoutError):
    """The name lookup, the connection or the TLS handshake did not end in time."""


@dataclass(frozen=True, slots=True)
class Dialer:
    """Opens connections to origins."""

    guard: Guard
    lookups: Lookups
    connect: Connect
    tls_context: ssl.SSLContext

    def dial(self, origin: Origin, limits: Limits, *, proven: bool = False) -> Connection:
        """Connect to the first address that answers, after all of them have been checked.

        `proven`: the name lookup does not queue behind those of receivers that hang.

        It connects to the checked address itself, so that no second lookup can return another one
        (DNS rebinding). Raises socket.gaierror, BlockedAddress, ConnectTimedOut, Unreachable,
        HandshakeFailed and ssl.SSLError.
        """
        try:
            return self._dial(origin, limits, proven=proven)
        except TimeoutError as error:
            raise ConnectTimedOut(str(error)) from None

    def _dial(self, origin: Origin, limits: Limits, *, proven: bool) -> Connection:
        limits.watch.enter(Step.LOOKUP)
        found = self.lookups.addresses(origin.host, origin.port, limits.deadline, proven=proven)
        addresses = in_turn(self.guard.check_all(found))
        limits.watch.enter(Step.CONNECT)
        sock = DeadlineSocket(self._first(addresses, origin.port, limits), limits)
        if origin.scheme == "https":
            limits.watch.enter(Step.TLS)
            try:
                sock.handshake(self.tls_context, origin.host.rstrip("."), limits.connect_s)
            except BaseException:
                sock.close()
                raise
        return Connection(origin, sock)

    def _first(self, addresses: Sequence[Address], port: int, limits: Limits) -> socket.socket:
        errors: list[OSError] = []
        for address in addresses:
            try:
                return self._connect(address, port, limits)
            except OSError as error:
                errors.append(error)
        raise errors[0]  # that of the system's preferred address

    def _connect(self, address: Address, port: int, limits: Limits) -> socket.socket:
        timeout_s = min(limits.connect_s, limits.deadline.left())
        try:
            return self.connect(address, port, timeout_s)
        except TimeoutError:
            raise TimeoutError(f"no connection within {round(timeout_s, 3):g} s") from None
        except OSError as error:
            raise Unreachable(error.errno, error.strerror or type(error).__name__) from None


def open_socket(address: Address, port: int, timeout_s: float) -> socket.socket:
    """Connect a socket to exactly this address; raises OSError, TimeoutError included."""
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
    """The first few, alternating between families, in case one of them is broken.

    See RFC 8305, section 4.
    """
    preferred = [each for each in addresses if each.version == addresses[0].version]
    others = [each for each in addresses if each.version != addresses[0].version]
    turns = chain.from_iterable(zip_longest(preferred, others))
    return [each for each in turns if each is not None][:MAX_ADDRESSES]
