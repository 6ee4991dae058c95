"""Announces new messages, so that idle consumers can sleep instead of polling.

A process that puts a message on an empty queue publishes the queue's name. In each worker process
a thread subscribes to these announcements and wakes the consumer. An announcement can get lost
with its connection, and older releases send none. So a consumer still polls every ten seconds;
if it then finds a message that was not announced, it polls as often as without announcements for a
minute. The ticker does not depend on them: its batches are sent by its own process.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Protocol

import redis
from dramatiq import Middleware
from redis import Redis

from callbacks.batcher.keys import arrivals_channel
from callbacks.log import log

#: How often an idle consumer polls while it is told of arrivals, and that of delayed messages.
TOLD_POLL_MS: Final = 10_000
DELAYED_TOLD_POLL_MS: Final = 30_000
#: How long consumers poll as often as without announcements after one was missing.
DOUBT_S: Final = 60.0
#: How often the listener checks that its silent connection is alive.
PING_S: Final = 10.0
#: Wait before the listener reconnects: the first, doubling up to the second.
_BACK_OFF_S: Final = (0.25, 5.0)


class Arrivals:
    """An event for each queue of this process, and whether other processes' messages set it."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._events: dict[str, threading.Event] = {}
        self._is_heard = False
        self._doubted_until = float("-inf")

    def event(self, queue_name: str) -> threading.Event:
        """The event that is set when this process, or one that announces it, enqueues a message."""
        return self._events.setdefault(queue_name, threading.Event())

    @property
    def are_told(self) -> bool:
        """Whether a consumer may rely on its event."""
        return self._is_heard and not self.are_doubted

    @property
    def are_doubted(self) -> bool:
        """Whether a message that was not announced came within `DOUBT_S`."""
        return self._monotonic() < self._doubted_until

    def missed(self) -> None:
        """Note that a message came that was not announced."""
        self._doubted_until = self._monotonic() + DOUBT_S

    @contextmanager
    def heard(self) -> Iterator[None]:
        """While it lasts, announcements are received. Wakes all consumers at both ends."""
        self._is_heard = True
        self.wake_all()
        try:
            yield
        finally:
            self._is_heard = False
            self.wake_all()

    def wake_all(self) -> None:
        """Have each consumer poll now."""
        for event in tuple(self._events.values()):
            event.set()


class _Broker(Protocol):
    """What the listener needs from the broker."""

    arrivals: Arrivals
    namespace: str
    client: Redis


class Listener(Middleware):
    """A thread in each worker process that receives announcements over its own connection.

    `connect` makes a client with one connection.
    """

    def __init__(self, connect: Callable[[], Redis]) -> None:
        self._connect = connect
        self._stop = threading.Event()

    def after_worker_boot(self, broker: Any, worker: Any) -> None:  # noqa: ARG002 - Dramatiq's shape
        """Start listening."""
        self._stop.clear()
        threading.Thread(
            target=self._run, args=(broker,), name="callbacks-listener", daemon=True
        ).start()

    def before_worker_shutdown(self, broker: Any, worker: Any) -> None:  # noqa: ARG002 - as above
        """Stop listening, and wake the consumers, so that they stop too."""
        self._stop.set()
        broker.arrivals.wake_all()

    def _run(self, broker: _Broker) -> None:
        client = self._connect()
        least, most = _BACK_OFF_S
        wait_s = least
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                self._listen(client, broker)
            except Exception as error:  # noqa: BLE001 - the listener outlives everything
                log.debug("arrivals_unheard", error=f"{type(error).__name__}: {error}")
            wait_s = least if time.monotonic() - began > PING_S else min(most, 2 * wait_s)
            self._stop.wait(wait_s * random.uniform(0.5, 1))  # noqa: S311 - spreads processes

    def _listen(self, client: Redis, broker: _Broker) -> None:
        """Receive announcements until the process stops; raises redis-py's errors."""
        connection: Any = client.connection_pool.get_connection()
        try:
            channel = arrivals_channel(broker.namespace)
            connection.send_command("SUBSCRIBE", channel)
            connection.read_response()
            broker.client.publish(channel, "")  # raises if this user may not publish
            with broker.arrivals.heard():
                self._hear(connection, broker)
        finally:
            connection.disconnect()
            client.connection_pool.release(connection)

    def _hear(self, connection: Any, broker: _Broker) -> None:
        root, is_asked = f"{broker.namespace}:", False
        while not self._stop.is_set():
            if connection.can_read(timeout=PING_S):
                push, is_asked = connection.read_response(), False
                if push[0] == b"message":
                    broker.arrivals.event(push[2].decode().removeprefix(root)).set()
            elif is_asked or broker.arrivals.are_doubted:
                raise redis.ConnectionError("no reply to PING, or a message was not announced")
            else:
                connection.send_command("PING", check_health=False)
                is_asked = True
