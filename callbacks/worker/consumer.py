"""The consumer of our broker: survives every error of Redis, polls closely when it matters."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

import redis
from dramatiq import Message, MessageProxy
from dramatiq.brokers.redis import _RedisConsumer
from dramatiq.common import dq_name, q_name
from dramatiq.errors import ConnectionClosed, DecodeError

from callbacks.log import log
from callbacks.worker.arrivals import DELAYED_TOLD_POLL_MS, TOLD_POLL_MS

QUEUE: Final = "callbacks"
#: How often an idle consumer polls if arrivals are not announced.
IDLE_POLL_MS: Final = 60
#: The same where messages wait for their delay, which leaves time to fetch them.
DELAYED_IDLE_POLL_MS: Final = 100
#: How long a consumer sleeps while its threads have enough to do, before it fetches more.
BUSY_POLL_MS: Final = 10
_PACE_S: Final = 0.1
#: While a worker shuts down, its consumers only hand on what they hold.
STOPPING_POLL_MS: Final = 20


def consumer_of(queue_name: str) -> str:
    """What the consumer of a queue is called among the signs of life."""
    return f"consumer of {queue_name}"


def connection_closed(error: Exception) -> ConnectionClosed:
    """The one error that Dramatiq's consumer threads survive."""
    return ConnectionClosed(error)  # type: ignore[no-untyped-call]


class Pace:
    """The rate at which messages end, measured every tenth of a second."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._since, self._ended, self._soon = monotonic(), 0, 0

    def count(self) -> None:
        """Note that a message has ended. Losing a count to a race does no harm."""
        self._ended += 1

    def soon(self) -> int:
        """How many are likely to end within the next tenth of a second."""
        took_s = self._monotonic() - self._since
        if took_s >= _PACE_S:
            self._soon = int(self._ended * _PACE_S / took_s)
            self._since, self._ended = self._monotonic(), 0
        return self._soon


class _Proxy(MessageProxy):
    """A message in the worker, which reads its fields some thirty times.

    Dramatiq's proxy looks each up in the message; here they are the proxy's own.
    """

    def __init__(self, message: Message[Any]) -> None:
        super().__init__(message)
        vars(self).update(vars(message))


class Consumer(_RedisConsumer):
    """A consumer that survives every error of Redis, and polls closely only when it matters.

    Dramatiq's backs off to a second when idle, which makes delays of 200 ms come in bursts.
    This one sleeps until the next delayed message is due, until a new one is announced (see
    `arrivals`), or for `TOLD_POLL_MS`; without announcements for `IDLE_POLL_MS`.
    """

    def __init__(self, broker: Any, queue_name: str, prefetch: int, timeout: int) -> None:
        super().__init__(broker, queue_name, prefetch, timeout)  # type: ignore[no-untyped-call]
        self._held = broker.held(queue_name)
        self._arrival = broker.arrivals.event(queue_name)
        self._slept_untold = False
        self._pace = Pace()
        self._etas: list[tuple[float, str]] = []
        self._ours = q_name(queue_name) == QUEUE
        delayed = queue_name == dq_name(queue_name)
        self._idle_poll_ms = DELAYED_IDLE_POLL_MS if delayed else IDLE_POLL_MS
        self._told_poll_ms = DELAYED_TOLD_POLL_MS if delayed else TOLD_POLL_MS

    def __next__(self) -> MessageProxy | None:
        if self._ours:
            self.broker.liveness.beat(consumer_of(self.queue_name))
        message = self._next_cached()
        if message is not None:
            return message
        if self.broker.stopping:
            self._calm(lambda: self.broker.acknowledge(self.queue_name))
            self._idle(STOPPING_POLL_MS)
            return None
        room = self._room()
        if room <= 0:
            time.sleep(BUSY_POLL_MS / 1_000)
            return None
        self._calm(lambda: self.broker.acknowledge(self.queue_name))
        self.message_cache = self._calm(lambda: self.broker.do_fetch(self.queue_name, room))
        if self.message_cache and self._slept_untold and not self._arrival.is_set():
            self.broker.arrivals.missed()
        self._slept_untold = False
        message = self._next_cached()
        if message is None:
            self._idle(self._told_poll_ms if self.broker.arrivals.are_told else self._idle_poll_ms)
        return message

    def _room(self) -> int:
        """How many messages to fetch now.

        On our queue, no more than this process's threads can start soon, because another process
        may have free threads; and while its own are busy, many at once or none.
        """
        outstanding: int = self.outstanding_message_count
        threads = self.broker.threads
        if self.queue_name != QUEUE or not threads:
            return int(self.prefetch) - outstanding
        most: int = min(self.prefetch, threads + self._pace.soon())
        room: int = most - outstanding
        return room if outstanding < threads or 4 * room >= most else 0

    def _next_cached(self) -> MessageProxy | None:
        while self.message_cache:
            data = self.message_cache.pop(0)
            message = self._decode(data) if data is not None else None
            if message is not None:
                return message
        return None

    def _decode(self, data: bytes) -> MessageProxy | None:
        """Read one message; one that cannot be read is dropped, and strands nobody else."""
        try:
            message = Message.decode(data)
            redis_id = message.options["redis_message_id"]
            eta = message.options.get("eta")
        except (DecodeError, KeyError, TypeError, AttributeError) as error:
            self._refuse(data, type(error).__name__)
            return None
        if message.queue_name != self.queue_name:  # it would be acknowledged elsewhere
            self._refuse(data, "belongs to another queue")
            return None
        self.queued_message_ids.add(message.message_id)
        self._held.add(redis_id)
        if isinstance(eta, int | float):
            if self._ours:
                eta = message.options["eta"] = self.broker.to_own_clock(eta)
            heapq.heappush(self._etas, (eta, redis_id))
        return _Proxy(message)

    def _refuse(self, data: bytes, error: str) -> None:
        log.warning("message_dropped", queue=self.queue_name, error=error)
        self._calm(lambda: self._drop(data))

    def _drop(self, data: bytes) -> None:
        """Acknowledge a message by its bytes: its id could not be read."""
        broker = self.broker
        for id in broker.fetched(broker.broker_id, self.queue_name):
            if broker.client.hget(f"{broker.namespace}:{self.queue_name}.msgs", id) == data:
                broker.do_ack(self.queue_name, id)

    def _idle(self, most_ms: int) -> None:
        """Sleep until something may be due, then let Dramatiq look at its delayed messages."""
        while self._etas and self._etas[0][1] not in self._held:
            heapq.heappop(self._etas)
        if self._etas:
            most_ms = min(most_ms, max(0, int(self._etas[0][0] - time.time() * 1_000) + 1))
        if most_ms:
            is_told = self._arrival.wait(most_ms / 1_000)
            self._slept_untold = most_ms == self._told_poll_ms and not is_told
        self._arrival.clear()  # before the next fetch, which finds what arrived until then

    def ack(self, message: MessageProxy) -> None:
        """Acknowledge a message: one of ours with the others that end until the next look."""
        if not self._ours:
            self._calm(lambda: self._end(message, self.broker.do_ack))
            return
        self._end(message, lambda _, redis_id: self.broker.ended(self.queue_name).append(redis_id))
        self._pace.count()
        if not self.queued_message_ids:
            self._arrival.set()  # acknowledge it before a long sleep

    def nack(self, message: MessageProxy) -> None:
        """Give a message up: on our queue it is dropped, elsewhere Dramatiq keeps it for a week.

        Its arguments and traceback help nobody: the callback is in the batcher's books.
        """
        if not self._ours:
            self._calm(lambda: self._end(message, self.broker.do_nack))
            return
        log.warning("message_dropped", queue=self.queue_name, actor=message.actor_name)
        self.ack(message)

    def _end(self, message: MessageProxy, command: Callable[[str, str], Any]) -> None:
        """End a message. Where that fails it makes room all the same, as with Dramatiq.

        It stays held, for Dramatiq tries again, and must not be given back meanwhile.
        """
        redis_id = message.options["redis_message_id"]
        try:
            command(self.queue_name, redis_id)
        finally:
            self.queued_message_ids.discard(message.message_id)
        self._held.discard(redis_id)

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Give messages back that were fetched and not begun."""
        ids = [message.options["redis_message_id"] for message in messages]
        if ids:
            self._calm(lambda: self.broker.do_requeue(self.queue_name, *ids))
            self._held.difference_update(ids)

    def close(self) -> None:
        """Acknowledge what has ended, and give back what was fetched and never looked at."""
        self._calm(lambda: self.broker.acknowledge(self.queue_name))
        fresh = []
        while (message := self._next_cached()) is not None:
            fresh.append(message)
        self.requeue(fresh)

    def _calm(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except redis.RedisError as error:
            raise connection_closed(error) from error
