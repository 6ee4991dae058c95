"""Keeps idle connections for the next request to the same origin."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from callbacks.delivery.connection import MAX_IDLE_S, Connection, Origin

MAX_IDLE: Final = 256  # connections kept per process; the longest idle one is closed first


@dataclass(slots=True)
class IdlePool:
    """Idle connections of a process, for all its threads. Never blocks."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _by_age: OrderedDict[Connection, None] = field(default_factory=OrderedDict)
    _by_origin: dict[Origin, list[Connection]] = field(default_factory=dict)
    _is_closed: bool = False

    def take(self, origin: Origin) -> Connection | None:
        """The most recently used connection to the origin that is still fit, or None."""
        while True:
            with self._lock:
                connections = self._by_origin.get(origin)
                if not connections:
                    return None
                connection = connections[-1]
                self._remove(connection)
            if connection.is_fit(time.monotonic()):
                return connection
            connection.close()

    def put(self, connection: Connection) -> None:
        """Keep the connection if it may be reused, else close it."""
        if not connection.idle_limit_s:
            connection.close()
            return
        connection.idle_since = now = time.monotonic()
        with self._lock:
            surplus = [connection] if self._is_closed else self._add(connection, now)
        for each in surplus:
            each.close()

    def count(self) -> int:
        """The number of connections that can be reused now."""
        with self._lock:
            connections = list(self._by_age)
        return sum(each.is_fit(time.monotonic()) for each in connections)

    def close(self) -> None:
        """Close idle connections now, and those in use when they come back."""
        with self._lock:
            self._is_closed = True
            connections = list(self._by_age)
            self._by_age.clear()
            self._by_origin.clear()
        for connection in connections:
            connection.close()

    def forget(self) -> None:
        """In a forked child, close this process's copies, without the lock: it may stay held."""
        for connection in list(self._by_age):
            connection.close()

    def _add(self, connection: Connection, now: float) -> list[Connection]:
        """Keep it; returns the removed ones: too many, or idle for too long."""
        self._by_age[connection] = None
        self._by_origin.setdefault(connection.origin, []).append(connection)
        surplus: list[Connection] = []
        while self._by_age:
            oldest = next(iter(self._by_age))
            if len(self._by_age) <= MAX_IDLE and now - oldest.idle_since < MAX_IDLE_S:
                break
            self._remove(oldest)
            surplus.append(oldest)
        return surplus

    def _remove(self, connection: Connection) -> None:
        del self._by_age[connection]
        siblings = self._by_origin[connection.origin]
        siblings.remove(connection)
        if not siblings:
            del self._by_origin[connection.origin]
