"""Name lookups that end in time, although the system's own have no timeout."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from ipaddress import ip_address
from typing import Final

from callbacks.deadline import Deadline

# (host, port) -> addresses, best first. It may raise any OSError; its thread may hang.
Resolver = Callable[[str, int], Sequence[str]]

MAX_LOOKUPS: Final = 128  # at the same time; a thread each, and more than a worker has threads


def system_addresses(host: str, port: int) -> list[str]:
    """The addresses of a name in the system's order of preference (RFC 6724)."""
    # As bytes it is looked up as it is: for a str Python would run its own, older IDNA.
    found = socket.getaddrinfo(host.encode("ascii"), port, type=socket.SOCK_STREAM)
    return [str(sockaddr[0]) for *_, sockaddr in found]


class Lookups:
    """Runs a resolver in daemon threads, so that whoever waits can stop waiting.

    A lookup that hangs keeps its thread until it ends. There are never more than `most` of
    them, and one for each name: a broken name server of one customer takes one thread,
    however many callbacks wait for it.
    """

    def __init__(self, resolve: Resolver, most: int = MAX_LOOKUPS) -> None:
        self._resolve = resolve
        self._most = most
        self._running: dict[tuple[str, int], Future[Sequence[str]]] = {}
        self._changed = threading.Condition()

    def addresses(self, host: str, port: int, deadline: Deadline) -> Sequence[str]:
        """The addresses of a host, at least one; an address is its own.

        Raises TimeoutError at the deadline, socket.gaierror where there are none or where
        too many lookups hang, and whatever else the resolver raises.
        """
        if _is_address(host):
            return [host]
        future = self._join((host, port), deadline)
        if not wait([future], deadline.left()).done:
            raise TimeoutError("the name lookup did not end in time")
        found = future.result()
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "the name has no address")
        return found

    def _join(self, name: tuple[str, int], deadline: Deadline) -> Future[Sequence[str]]:
        with self._changed:
            if not self._changed.wait_for(lambda: self._has_room_for(name), deadline.left()):
                raise socket.gaierror(socket.EAI_AGAIN, "too many name lookups hang")
            future = self._running.get(name)
            if future is None:
                future = Future()
                thread = threading.Thread(
                    target=self._run, args=(name, future), name=f"lookup {name[0]}", daemon=True
                )
                thread.start()  # before the entry: where it fails, none is left behind
                self._running[name] = future
            return future

    def _has_room_for(self, name: tuple[str, int]) -> bool:
        return name in self._running or len(self._running) < self._most

    def _run(self, name: tuple[str, int], future: Future[Sequence[str]]) -> None:
        try:
            found = self._resolve(*name)
        except BaseException as error:  # noqa: BLE001 -- it goes to those who wait
            self._forget(name)
            future.set_exception(error)
        else:
            self._forget(name)
            future.set_result(found)

    def _forget(self, name: tuple[str, int]) -> None:
        """Before anyone has the answer, so that whoever asks next gets one of their own."""
        with self._changed:
            del self._running[name]
            self._changed.notify_all()


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
