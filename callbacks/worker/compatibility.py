"""Whether this Dramatiq has the private parts that our broker and consumer are built on.

Releases 2.0.0 to 2.2.1 have them. Nobody promises that a later one does, and a broker that fits
only half would strand messages in silence, so a worker that finds something else does not start.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from importlib import import_module
from operator import attrgetter
from typing import Any, Final

import dramatiq

_REDIS: Final = "dramatiq.brokers.redis"
#: What is called, replaced or subclassed.
_NAMES: Final = (
    (_REDIS, "RedisBroker.consumer_class"),
    (_REDIS, "RedisBroker.enqueue"),
    (_REDIS, "RedisBroker.__getattr__"),  # makes do_fetch, do_ack, do_nack and do_requeue
    (_REDIS, "_RedisConsumer"),
    (_REDIS, "_scripts"),
    ("dramatiq.broker", "Broker.emit_before"),
    ("dramatiq.broker", "Broker.emit_after"),
    ("dramatiq.worker", "ConsumerThread.handle_delayed_messages"),
    ("dramatiq.worker", "join_all"),
    ("dramatiq.cli", "worker_process.__code__"),
    ("dramatiq.errors", "ConnectionClosed"),
)
#: What `RedisBroker.__init__` sets, which ours has to set in its place.
_BROKER: Final = frozenset(
    {
        "actors", "actor_options", "broker_id", "client", "dead_message_ttl", "delay_queues",
        "heartbeat_timeout", "logger", "maintenance_chance", "middleware", "namespace", "queues",
        "scripts",
    }
)  # fmt: skip
_CONSUMER: Final = ("message_cache", "outstanding_message_count", "prefetch", "queued_message_ids")
_CONSUMER_TAKES: Final = ("self", "broker", "queue_name", "prefetch", "timeout")
#: The arguments of `dispatch.lua`, as `CallbacksBroker` gives them.
_DISPATCH_TAKES: Final = (
    "command", "timestamp", "queue_name", "worker_id", "heartbeat_timeout", "dead_message_ttl",
    "do_maintenance", "max_unpack_size",
)  # fmt: skip
_COMMANDS: Final = ("enqueue", "fetch", "ack", "nack", "requeue")


def misfits() -> Iterator[str]:
    """Name each part that is missing, or is not as it was in the releases that we know."""
    missing = [f"{module}.{name}" for module, name in _NAMES if not _has(module, name)]
    if missing:
        yield from missing
        return
    theirs: Any = import_module(_REDIS)
    if set(theirs._scripts) != {"dispatch", "maxstack"}:  # noqa: SLF001 - the point of all this
        yield "the Lua scripts"
    else:
        yield from _of_dispatch(theirs._scripts["dispatch"].decode())  # noqa: SLF001
    if tuple(inspect.signature(theirs._RedisConsumer.__init__).parameters) != _CONSUMER_TAKES:  # noqa: SLF001
        yield "_RedisConsumer's parameters"
        return
    consumer = theirs._RedisConsumer(None, "", 1, 1)  # noqa: SLF001
    yield from (f"_RedisConsumer.{name}" for name in _CONSUMER if not hasattr(consumer, name))
    given = vars(theirs.RedisBroker(client=_NoClient(), middleware=[])).keys()
    yield from (f"RedisBroker.{name}" for name in sorted(given ^ _BROKER))


def misfit() -> str:
    """Say in one line why this Dramatiq cannot be used; empty if it can."""
    found = ", ".join(misfits())
    if not found:
        return ""
    return (
        f"dramatiq {dramatiq.__version__} differs from the releases that callbacks works with:"
        f" {found}; install 2.2.1"
    )


def _has(module: str, name: str) -> bool:
    try:
        attrgetter(name)(import_module(module))
    except (ImportError, AttributeError):
        return False
    return True


def _of_dispatch(text: str) -> Iterator[str]:
    for place, name in enumerate(_DISPATCH_TAKES, start=1):
        if f"local {name} = ARGV[{place}]\n" not in text:
            yield f"dispatch.lua's argument {name}"
    for command in _COMMANDS:
        if f'command == "{command}"' not in text:
            yield f"dispatch.lua's command {command}"


class _NoClient:
    """As much of a Redis client as a RedisBroker asks when it is made."""

    def register_script(self, script: object) -> object:
        return script
