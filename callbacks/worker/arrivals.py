"""Word of new messages, by which idle consumers sleep instead of looking for them.

Whoever puts a message on an empty queue publishes the queue's name. A thread of each worker
process subscribes to these words and wakes the consumer. A word can be lost, with its connection
say, or never be sent, by a release that knew none: so a consumer looks every ten seconds all the
same, and where it then finds what nobody announced, closely for a while. The ticker, which has its
batches sent by its own process, needs no word.
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

#: How long an idle consumer sleeps while it is told of arrivals; that of delayed messages is in no
#: hurry.
TOLD_POLL_MS: Final = 10_000
DELAYED_TOLD_POLL_MS: Final = 30_000
#: After a message that was not announced consumers look closely for so long.
DOUBT_S: Final = 60.0
#: The listener asks so often whether its connection is alive.
PING_S: Final = 10.0
#: From one connection to the next try, doubling from the first to the second.
_BACK_OFF_S: Final = (0.25, 5.0)


class Arrivals:
    """An event for each queue of this process, and whether others' messages set it, too."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._events: dict[str, threading.Event] = {}
        self._is_heard = False
        self._doubted_until = float("-inf")

    def event(self, queue_name: str) -> threading.Event:
        """Set whenever something is put on a queue, by this process or, if told, by another."""
        return self._events.setdefault(queue_name, threading.Event())

    @property
    def are_told(self) -> bool:
        """Whether a consumer may sleep until its event is set."""
        return self._is_heard and not self.are_doubted

    @property
    def are_doubted(self) -> bool:
        """Whether a message came lately of which there was no word."""
        return self._monotonic() < self._doubted_until

    def missed(self) -> None:
        """Note that a message came of which there was no word."""
        self._doubted_until = self._monotonic() + DOUBT_S

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Words are heard meanwhile. All look once at its beginning, and closely from its end."""
        self._is_heard = True
        self.wake_all()
        try:
            yield
        finally:
            self._is_heard = False
            self.wake_all()

    def wake_all(self) -> None:
        """Let each consumer look."""
        for event in tuple(self._events.values()):
            event.set()


class _Namespaced(Protocol):
    """What the listener needs of the broker."""

    arrivals: Arrivals
    namespace: str
    client: Redis


class Listener(Middleware):
    """A thread in each worker process that hears of messages, over a connection of its own.

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
        """Stop listening, and let the consumers see that they are to stop."""
        self._stop.set()
        broker.arrivals.wake_all()

    def _run(self, broker: _Namespaced) -> None:
        client = self._connect()
        least, most = _BACK_OFF_S
        wait_s = least
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                self._listen(client, broker)
            except Exception as error:  # noqa: BLE001 - whatever came, it goes on listening
                log.debug("arrivals_unheard", error=f"{type(error).__name__}: {error}")
            wait_s = least if time.monotonic() - began > PING_S else min(most, 2 * wait_s)
            self._stop.wait(wait_s * random.uniform(0.5, 1))  # noqa: S311 - spreads processes

    def _listen(self, client: Redis, broker: _Namespaced) -> None:
        """Hear words until the connection breaks or the process stops; raises redis' errors."""
        connection: Any = client.connection_pool.get_connection()
        try:
            channel = arrivals_channel(broker.namespace)
            connection.send_command("SUBSCRIBE", channel)
            connection.read_response()
            broker.client.publish(channel, "")  # who may not publish hears nothing either
            with broker.arrivals.heard():
                self._hear(connection, broker)
        finally:
            connection.disconnect()
            client.connection_pool.release(connection)

    def _hear(self, connection: Any, broker: _Namespaced) -> None:
        root, is_asked = f"{broker.namespace}:", False
        while not self._stop.is_set():
            if connection.can_read(timeout=PING_S):
                word, is_asked = connection.read_response(), False
                if word[0] == b"message":
                    broker.arrivals.event(word[2].decode().removeprefix(root)).set()
            elif is_asked or broker.arrivals.are_doubted:
                raise redis.ConnectionError("no answer to PING, or no word of a message")
            else:
                connection.send_command("PING", check_health=False)
                is_asked = True
