"""Name lookups with a deadline, which the system's do not have."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from functools import cache, partial
from importlib import import_module
from ipaddress import ip_address
from typing import Any

from callbacks.delivery.daemon_pool import MAX_CALLS, DaemonPool, TooManyHang
from callbacks.delivery.deadline import Deadline
from callbacks.native import native

# (host, port) -> addresses, best first. It may raise any OSError; its thread may hang.
Resolver = Callable[[str, int], Sequence[str]]


def system_addresses(host: str, port: int) -> list[str]:
    """Look up a name; addresses come in the system's order of preference (RFC 6724)."""
    # As bytes, so that Python does not apply its own, older IDNA.
    found = _getaddrinfo()(host.encode("ascii"), port, type=socket.SOCK_STREAM)
    return [str(sockaddr[0]) for *_, sockaddr in found]


@cache
def _getaddrinfo() -> Callable[..., list[tuple[Any, ...]]]:
    """`getaddrinfo`; under gevent, in a thread pool of its own.

    gevent runs the lookups of the whole process in one pool of ten threads: ten hanging lookups
    would stop all others.
    """
    lookup: Callable[..., list[tuple[Any, ...]]] = native("socket", "getaddrinfo")
    return lookup if lookup is socket.getaddrinfo else partial(_in_a_thread, lookup)


def _in_a_thread(call: Callable[..., Any], *args: Any, **more: Any) -> Any:
    """Have a real thread make a call that blocks, while this greenlet waits for it.

    The greenlets that come here are as many as `DaemonPool` has, so nothing else counts them.
    """
    hub: Any = import_module("gevent").get_hub()  # of an extra
    ended = hub.loop.async_()
    outcome: dict[str, Any] = {}  # nothing of gevent's may be touched from another thread

    def run() -> None:
        try:
            outcome["found"] = call(*args, **more)
        except BaseException as error:  # noqa: BLE001 - it goes to the greenlet
            outcome["error"] = error
        ended.send()

    try:
        native("_thread", "start_new_thread")(run, ())
    except RuntimeError as error:  # the system has no more
        raise TooManyHang(f"no thread for the name lookup: {error}") from error
    hub.wait(ended)
    ended.close()
    if "error" in outcome:
        raise outcome["error"]
    return outcome["found"]


class Lookups:
    """Calls a resolver, at most once at a time for each name; see `DaemonPool`."""

    def __init__(self, resolve: Resolver, most: int = MAX_CALLS) -> None:
        self._calls = DaemonPool(self._found, name="name lookup", most=most)
        self._resolve = resolve

    def under_way(self) -> int:
        """The number of running lookups, hanging ones included."""
        return self._calls.under_way()

    def _found(self, name: tuple[str, int]) -> Sequence[str]:
        return self._resolve(*name)

    def addresses(
        self, host: str, port: int, deadline: Deadline, *, proven: bool = False
    ) -> Sequence[str]:
        """Return the addresses of a host, at least one; an IP address is returned as it is.

        Lookups for `proven` receivers do not wait for those of others.

        Raises TimeoutError at the deadline, socket.gaierror if there are no addresses or too many
        lookups hang, and whatever else the resolver raises.
        """
        if _is_address(host):
            return [host]
        try:
            found = self._calls.result((host, port), deadline, proven=proven)
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
