"""Dramatiq's Redis broker, made to stay alive.

`CallbacksBroker` shares the batcher's client and differs from `RedisBroker` in what is listed
at its methods, each with the failure that it avoids. It leans on private parts of Dramatiq, which
`compatibility` names; a worker does not start where they have changed.

A message is only a wake-up: with every key of Dramatiq's deleted, everything is still
delivered. So on our own queue a message may be dropped where it does harm, and is.
"""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final
from uuid import uuid4

import redis
from dramatiq import Broker, Message, Middleware
from dramatiq.brokers.redis import RedisBroker, _scripts
from dramatiq.common import current_millis, dq_name, q_name
from dramatiq.middleware import MiddlewareError
from redis import Redis

from callbacks.batcher.keys import arrivals_channel
from callbacks.batcher.paging import pages
from callbacks.batcher.routing import Sender, sender
from callbacks.batcher.scripts import evaluate
from callbacks.log import log
from callbacks.model import SettingsError
from callbacks.worker.arrivals import Arrivals
from callbacks.worker.consumer import QUEUE, Consumer, connection_closed
from callbacks.worker.liveness import Liveness
from callbacks.worker.nonces import Nonces

#: A process whose heartbeat is older is dead.
DEAD_AFTER_MS: Final = 60_000
DEAD_MESSAGE_TTL_MS: Final = 7 * 86_400_000
#: A clock that is further off than this is corrected. The gate lets a message wait for longer.
CLOCK_OFF_MS: Final = 100
#: A full Redis refuses a script whose first write may grow, as Dramatiq's is. With a removal in
#: front its messages still come and are acknowledged, so that deliveries go on and make room.
_REMOVAL_FIRST: Final = (
    b"""if KEYS[1] then redis.call("zrem", KEYS[1] .. ":__heartbeats__", "") end\n"""
)
#: What Dramatiq's "enqueue" does, for many messages of one queue; announces them if it was empty.
#: While it is not, each consumer is busy or has been woken.
_ENQUEUE: Final = (
    _REMOVAL_FIRST
    + b"""
local is_empty = redis.call("exists", KEYS[3]) == 0
for i = 1, #ARGV, 2 do
  redis.call("hset", KEYS[2], ARGV[i], ARGV[i + 1])
  redis.call("rpush", KEYS[3], ARGV[i])
end
if is_empty then redis.pcall("publish", KEYS[4], KEYS[3]) end
"""
)
#: Acknowledges messages of one queue.
_ACKNOWLEDGE: Final = b"""
redis.call("srem", KEYS[1], unpack(ARGV))
redis.call("hdel", KEYS[2], unpack(ARGV))
"""
#: Most messages that are acknowledged or given back in one command, and that are enqueued.
_CHUNK: Final = 500
#: Most heartbeats that are looked at in one pass, those that tell the oldest times first.
_MOST_HEARTBEATS: Final = 1_000
_PAGE: Final = 100
_IDS: Final = Nonces()
_FAILED: Final = "Unexpected failure in %s of %r."

#: The middleware of a broker, and for each signal those that listen, with their methods.
_Listeners = tuple[list[Middleware], dict[str, list[tuple[Middleware, Callable[..., Any]]]]]


class _Script:
    """A script for the broker, which a `SCRIPT FLUSH` does not disturb."""

    def __init__(self, pipeline: Sender, text: bytes) -> None:
        self._pipeline, self._text = pipeline, text
        self._sha = hashlib.sha1(text, usedforsecurity=False).hexdigest()

    def __call__(self, *, keys: Sequence[Any] = (), args: Sequence[Any] = ()) -> Any:
        return evaluate(self._pipeline, self._sha, self._text, [len(keys), *keys, *args])


class Heartbeats:
    """What this process has seen of others' heartbeats, and since when they stand still."""

    def __init__(self, patience_s: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._patience_s = patience_s
        self._monotonic = monotonic
        self._seen: dict[str, tuple[float, float]] = {}

    def still(self, beats: Mapping[str, float]) -> list[str]:
        """Take a look; give those that have not moved for longer than the patience."""
        now = self._monotonic()
        seen = {id: self._seen.get(id, (at, now)) for id, at in beats.items()}
        self._seen = {
            id: (beats[id], since if before == beats[id] else now)
            for id, (before, since) in seen.items()
        }
        return [id for id, (_, since) in self._seen.items() if now - since > self._patience_s]


class CallbacksBroker(RedisBroker):
    """A RedisBroker on a client that is built when it is first needed.

    Making one opens no connection and reads no setting: `connect` gives the client and the
    namespace at the first use, so that importing the package stays without effects.
    """

    def __init__(
        self,
        connect: Callable[[], tuple[Redis, str]],
        *,
        middleware: list[Any] | None = None,
        liveness: Liveness | None = None,
    ) -> None:
        # RedisBroker.__init__ would need the client now; what it sets is set here instead.
        self._known_listeners: _Listeners = ([], {})
        Broker.__init__(self, middleware=middleware)
        self._connect = connect
        self._connected: tuple[Redis, str, dict[str, Any]] | None = None
        self.broker_id = str(uuid4())
        self.maintenance_chance = 0  # runs KEYS, 110 ms at a million keys; see forget_dead_workers
        self.heartbeat_timeout = DEAD_AFTER_MS
        self.dead_message_ttl = DEAD_MESSAGE_TTL_MS
        self.queues = set()
        self.stopping = False
        #: Threads or greenlets of this process's worker; 0 until that boots.
        self.threads = 0
        self.liveness = liveness or Liveness()
        self._clock_off_ms = 0
        self._heartbeats = Heartbeats(self.heartbeat_timeout / 1_000)
        self.arrivals = Arrivals()
        self._held: dict[str, set[str]] = {}
        self._ended: dict[str, deque[str]] = {}

    def forget_client(self) -> None:
        """Ask for another client at the next use; messages of the old one stay where they are."""
        self._connected = None

    def _parts(self) -> tuple[Redis, str, dict[str, Any]]:
        if self._connected is None:
            client, namespace = self._connect()
            pipeline = sender(client)
            scripts = {
                name: _Script(pipeline, _REMOVAL_FIRST + text) for name, text in _scripts.items()
            }
            scripts["enqueue"] = _Script(pipeline, _ENQUEUE)
            scripts["acknowledge"] = _Script(pipeline, _ACKNOWLEDGE)
            self._connected = (client, namespace, scripts)
        return self._connected

    def emit_before(self, signal: str, *args: Any, **kwargs: Any) -> None:
        """Call the middleware that handles a signal; skips inherited empty methods.

        Calling those would take a tenth of a worker's time: each message has half a dozen signals.
        """
        name = f"before_{signal}"
        for middleware, method in self._listeners(name):
            try:
                method(self, *args, **kwargs)
            except MiddlewareError:
                raise
            except Exception:
                self.logger.critical(_FAILED, name, middleware, exc_info=True)

    def emit_after(self, signal: str, *args: Any, **kwargs: Any) -> None:
        """Call the middleware that handles a signal, in the opposite order."""
        name = f"after_{signal}"
        for middleware, method in reversed(self._listeners(name)):
            try:
                method(self, *args, **kwargs)
            except Exception:
                self.logger.critical(_FAILED, name, middleware, exc_info=True)

    def _listeners(self, name: str) -> list[tuple[Middleware, Callable[..., Any]]]:
        """Each middleware that defines a method for a signal, and that method."""
        known, listeners = self._known_listeners
        if known != self.middleware:  # some was added
            known, listeners = self._known_listeners = (self.middleware.copy(), {})
        if name not in listeners:
            # An application may send signals of its own, and its middleware lack some methods.
            methods = [(one, getattr(one, name, None)) for one in known]
            empty = getattr(Middleware, name, None)
            listeners[name] = [
                (one, method)
                for one, method in methods
                if method and getattr(method, "__func__", method) is not empty
            ]
        return listeners[name]

    @property
    def client(self) -> Redis:  # type: ignore[override]  # theirs is set, ours built when needed
        """The process's one Redis client."""
        return self._parts()[0]

    @property
    def namespace(self) -> str:
        """The prefix of Dramatiq's keys."""
        return self._parts()[1]

    @property
    def scripts(self) -> dict[str, Any]:  # type: ignore[override]  # as client
        """Dramatiq's own Lua scripts on our client."""
        return self._parts()[2]

    @property
    def consumer_class(self) -> type[Consumer]:
        """Our consumer instead of Dramatiq's."""
        return Consumer

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """Enqueue, and let this process's consumer know at once.

        Every error of Redis becomes `ConnectionClosed`: Dramatiq's consumer threads survive
        only that one. A scheduler's message that cannot be sent is logged and dropped, for
        periodiq exits when a send fails, and the next one comes within a minute. A retry of
        ours, whose callback the ticker wakes, is dropped: `Retries` would log a traceback each.
        """
        try:
            message = super().enqueue(message, delay=self._by_redis_clock(message, delay))
        except redis.RedisError as error:
            if "scheduled_at" in message.options:
                log.warning("tick_lost", actor=message.actor_name, error=str(error))
            elif q_name(message.queue_name) == QUEUE and "retries" in message.options:
                log.debug("wake_lost", actor=message.actor_name, error=str(error))
            else:
                raise connection_closed(error) from error
            return message
        except SettingsError as error:
            if "scheduled_at" not in message.options:
                raise
            raise SystemExit(f"callbacks: {error}") from None  # periodiq would print a traceback
        return message

    def do_enqueue(self, queue_name: str, redis_id: str, data: bytes) -> None:
        """Put one message on a queue with our script; raises redis-py's errors."""
        self._put(queue_name, [redis_id, data])

    def enqueue_many(
        self,
        actor_name: str,
        calls: Sequence[tuple[tuple[Any, ...], int | None]],
        options: Mapping[str, Any],
    ) -> None:
        """Enqueue messages for our own actor: its arguments and a delay in ms each.

        Middleware does not see them. They go a hundred at a time, so that the process's other
        threads come to their turn in between. Raises `ConnectionClosed` if Redis is away;
        some may have been enqueued then.
        """
        now = current_millis()
        for page in pages(calls, _PAGE):
            rows: dict[str, list[str | bytes]] = {}
            for args, delay_ms in page:
                message = self._message(actor_name, args, delay_ms, options, now)
                row = (message.message_id, message.encode())
                rows.setdefault(message.queue_name, []).extend(row)
            for queue_name, words in rows.items():
                try:
                    self._put(queue_name, words)
                except redis.RedisError as error:
                    raise connection_closed(error) from error

    def _message(
        self,
        actor_name: str,
        args: tuple[Any, ...],
        delay_ms: int | None,
        options: Mapping[str, Any],
        now: int,
    ) -> Message[Any]:
        id, queue_name = _IDS.next(), QUEUE
        more = {**options, "redis_message_id": id}
        if delay_ms is not None:
            queue_name, more["eta"] = dq_name(QUEUE), now + delay_ms + self._clock_off_ms
        return Message(queue_name, actor_name, args, {}, more, id, now)

    def _put(self, queue_name: str, words: Sequence[str | bytes]) -> None:
        """Put messages on a queue, each as its Redis id and data, and wake its consumers."""
        root = f"{self.namespace}:{queue_name}"
        keys = [self.namespace, f"{root}.msgs", root, arrivals_channel(self.namespace)]
        self.scripts["enqueue"](keys=keys, args=words)
        self.arrivals.event(queue_name).set()

    def do_requeue(self, queue_name: str, *redis_ids: str) -> None:
        """Return messages that this process has fetched, and announce them."""
        self._dispatch("requeue")(queue_name, *redis_ids)  # type: ignore[no-untyped-call]
        self._announce(queue_name)

    def _announce(self, queue_name: str) -> None:
        with suppress(redis.RedisError):  # they poll within seconds anyway
            self.client.publish(arrivals_channel(self.namespace), f"{self.namespace}:{queue_name}")

    def _by_redis_clock(self, message: Message[Any], delay: int | None) -> int | None:
        if delay is None or message.queue_name != QUEUE:
            return delay
        return delay + self._clock_off_ms

    def set_clock(self, redis_ms: int, *, took_ms: float) -> None:
        """Learn what time it was at Redis, ms: delays on our queue are kept by that clock.

        `took_ms`: how long asking took, until now; half of it is how wrong the answer may be.
        Dramatiq reads each machine's own clock, so that one that is fast would wake its callbacks
        too early, where the gate refuses them, and one that is slow would hold back everybody's.
        """
        error_ms = took_ms / 2
        off_ms = round(redis_ms + error_ms - current_millis())
        if abs(off_ms) >= CLOCK_OFF_MS + error_ms:
            self._clock_off_ms = off_ms
        elif error_ms < CLOCK_OFF_MS:
            self._clock_off_ms = 0

    def to_own_clock(self, eta_ms: float) -> float:
        """Turn a time by Redis' clock into one by this machine's, ms."""
        return eta_ms - self._clock_off_ms

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> Consumer:
        """Start a consumer; first give back what the one before it left without an owner.

        After an error Dramatiq forgets its delayed messages, and a fetch whose reply was lost
        leaves others with nobody: both stay in the acks of a live process for ever.
        """
        try:
            self._register(queue_name)
            self.acknowledge(queue_name)
            self._give_back(queue_name)
        except redis.RedisError as error:
            raise connection_closed(error) from error
        return Consumer(self, queue_name, prefetch, timeout)

    def _register(self, queue_name: str) -> None:
        """Leave word of another queue than ours, for whoever clears up after this process."""
        if q_name(queue_name) != QUEUE:
            with suppress(redis.OutOfMemoryError):
                self.client.sadd(f"{self.namespace}:__queues__", queue_name)

    def _give_back(self, queue_name: str) -> None:
        held = self.held(queue_name)
        if queue_name == dq_name(queue_name):
            held.clear()  # the thread has forgotten them
        fetched = self.fetched(self.broker_id, queue_name)
        stranded = [id for id in fetched if id not in held]
        if stranded:
            log.info("given_back", queue=queue_name, count=len(stranded))
            for start in range(0, len(stranded), _CHUNK):
                self.do_requeue(queue_name, *stranded[start : start + _CHUNK])

    def _acks(self, broker_id: str, queue_name: str) -> str:
        return f"{self.namespace}:__acks__.{broker_id}.{queue_name}"

    def fetched(self, broker_id: str, queue_name: str) -> set[str]:
        """The Redis ids of the messages that a process has fetched and not acknowledged."""
        raw: Any = self.client.smembers(self._acks(broker_id, queue_name))
        return {id.decode() for id in raw}

    def ended(self, queue_name: str) -> deque[str]:
        """The Redis ids of this process's messages of a queue that wait to be acknowledged."""
        return self._ended.setdefault(queue_name, deque())

    def acknowledge(self, queue_name: str) -> None:
        """Acknowledge what has ended, some hundreds in one round trip.

        A message is only a wake-up, so its acknowledgement can wait for its consumer's next
        look, and no thread has to wait for Redis with it.
        """
        ended = self.ended(queue_name)
        keys = [self._acks(self.broker_id, queue_name), f"{self.namespace}:{queue_name}.msgs"]
        while ids := _popped(ended, _CHUNK):
            try:
                self.scripts["acknowledge"](keys=keys, args=ids)
            except redis.RedisError:
                ended.extend(ids)
                raise

    def held(self, queue_name: str) -> set[str]:
        """The Redis ids of this process's messages of a queue: fetched, not yet acknowledged."""
        return self._held.setdefault(queue_name, set())

    def forget_dead_workers(self, *, limit: int = 20) -> int:
        """Clear up what dead processes had fetched and not acknowledged; how many messages.

        Dead: the heartbeat has not moved for a minute by this process's own clock, whatever
        time it tells, for that is of another machine's. Dramatiq itself would do this once in
        1,000 commands on average. Messages of our queue are dropped, for the callbacks behind
        them have got new ones long since. Those of an application that shares this broker go
        back to their queues.
        """
        heartbeats = f"{self.namespace}:__heartbeats__"
        rows: Any = self.client.zrange(heartbeats, 0, _MOST_HEARTBEATS - 1, withscores=True)
        dead = self._heartbeats.still({id.decode(): at for id, at in rows})[:limit]
        others = self._other_queues()
        for queue_name in others:
            self._forget_given_up(queue_name)
        cleared = 0
        for broker_id in dead:
            cleared += sum(map(partial(self._drop, broker_id), (QUEUE, dq_name(QUEUE))))
            cleared += sum(map(partial(self._restore, broker_id), others))
            self.client.zrem(heartbeats, broker_id)
        return cleared

    def _other_queues(self) -> list[str]:
        """The queues beside ours, delayed ones too: of this process, and of others that told."""
        own = {name for queue in self.queues - {QUEUE} for name in (queue, dq_name(queue))}
        for queue_name in sorted(own):
            self._register(queue_name)
        raw: Any = self.client.smembers(f"{self.namespace}:__queues__")
        return sorted(own | {name.decode() for name in raw})

    def _drop(self, broker_id: str, queue_name: str) -> int:
        ids = self.fetched(broker_id, queue_name)
        with self.client.pipeline(transaction=False) as pipe:  # a full Redis refuses MULTI
            for id in ids:
                pipe.hdel(f"{self.namespace}:{queue_name}.msgs", id)
            pipe.delete(self._acks(broker_id, queue_name))
            pipe.execute()
        return len(ids)

    def _restore(self, broker_id: str, queue_name: str) -> int:
        """Call Dramatiq's own `requeue` in a dead process's name, which stays dead (time 0)."""
        ids = sorted(self.fetched(broker_id, queue_name))
        for page in pages(ids, _CHUNK):
            args = ["requeue", 0, queue_name, broker_id, 0, 0, 0, _CHUNK, *page]
            self.scripts["dispatch"](keys=[self.namespace], args=args)
        if ids:
            self._announce(queue_name)
        return len(ids)

    def _forget_given_up(self, queue_name: str) -> None:
        """Forget messages that Dramatiq gave up a week ago, as its maintenance would."""
        key = f"{self.namespace}:{queue_name}.XQ"
        long_ago = current_millis() - self.dead_message_ttl
        ids: Any = self.client.zrangebyscore(key, 0, long_ago, start=0, num=_CHUNK)
        if ids:
            with self.client.pipeline(transaction=False) as pipe:
                pipe.hdel(f"{key}.msgs", *ids)
                pipe.zrem(key, *ids)
                pipe.execute()


def _popped(ids: deque[str], most: int) -> list[str]:
    """Take up to `most` away, though another thread may do the same."""
    taken: list[str] = []
    with suppress(IndexError):
        while len(taken) < most:
            taken.append(ids.popleft())
    return taken
