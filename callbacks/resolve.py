"""Name lookups that end in time, although the system's own have no timeout."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from ipaddress import ip_address

from callbacks.bounded import MAX_CALLS, BoundedCalls, TooManyHang
from callbacks.deadline import Deadline

# (host, port) -> addresses, best first. It may raise any OSError; its thread may hang.
Resolver = Callable[[str, int], Sequence[str]]


def system_addresses(host: str, port: int) -> list[str]:
    """The addresses of a name in the system's order of preference (RFC 6724)."""
    # As bytes it is looked up as it is: for a str Python would run its own, older IDNA.
    found = socket.getaddrinfo(host.encode("ascii"), port, type=socket.SOCK_STREAM)
    return [str(sockaddr[0]) for *_, sockaddr in found]


class Lookups:
    """Asks a resolver, one call at a time for each name, `most` at a time for all."""

    def __init__(self, resolve: Resolver, most: int = MAX_CALLS) -> None:
        self._calls = BoundedCalls(self._found, name="name lookup", most=most)
        self._resolve = resolve

    def _found(self, name: tuple[str, int]) -> Sequence[str]:
        return self._resolve(*name)

    def addresses(self, host: str, port: int, deadline: Deadline) -> Sequence[str]:
        """The addresses of a host, at least one; an address is its own.

        Raises TimeoutError at the deadline, socket.gaierror where there are none or where
        too many lookups hang, and whatever else the resolver raises.
        """
        if _is_address(host):
            return [host]
        try:
            found = self._calls.result((host, port), deadline)
        except TooManyHang as error:
            raise socket.gaierror(socket.EAI_AGAIN, str(error)) from None
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "the name has no address")
        return found


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
