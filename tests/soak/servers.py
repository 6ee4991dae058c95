"""Where the callbacks are: one Redis, or a cluster with several shards."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from callbacks.batcher.keys import Keys, shard_tags, slot_of
from tests.support.server import Server, binaries
from tests.support.topologies import ClusterSystem

NAMESPACE: Final = "callbacks"
#: Two for each primary.
SHARDS: Final = 6
_AOF: Final = ("--appendonly", "yes", "--appendfsync", "everysec")
#: For one WAIT for the replicas after an act of the operator.
_WAIT_MS: Final = 1_000


def hasty() -> dict[str, Any]:
    """Options of a client that gives up at once: the supervisor waits for us."""
    return {"socket_timeout": 1.0, "retry": Retry(NoBackoff(), 0)}


class OneRedis:
    """One server, which keeps all that it has acknowledged."""

    settings: Final[Mapping[str, str]] = {}
    shards = 1

    def __init__(self) -> None:
        self.server = Server(binaries()["valkey"], *_AOF).start()
        self.url = self.server.url

    def victim(self, pick: float) -> Server:
        """The primary that a fault is for."""
        return self.server

    def locks(self) -> list[tuple[Server, str]]:
        """Where dispatch locks are: server and key."""
        return [(self.server, Keys(NAMESPACE).of("lock"))]

    def undisturbed(self) -> AbstractContextManager[None]:
        """Within it an act of the operator cannot get lost."""
        return nullcontext()

    def stop(self) -> None:
        self.server.stop()


class Cluster:
    """A cluster of three primaries and three replicas, which is given one fault at a time.

    A replica may be promoted that lacks the last writes. What is enqueued waits for the replica.
    Nothing else does, so the operator acts while no primary is killed.
    """

    settings: Final[Mapping[str, str]] = {
        "CALLBACKS_SHARDS": str(SHARDS),
        "CALLBACKS_WAIT_FOR": "replica",
    }
    shards = SHARDS

    def __init__(self) -> None:
        self.system = ClusterSystem(binaries()["valkey"], **hasty()).start()
        self.url = self.system.url
        self.tags = shard_tags(NAMESPACE, SHARDS)
        #: Held while writes may get lost, and while the operator acts.
        self.lossy = threading.Lock()

    def ready(self) -> bool:
        return self.system.ready()

    def slot(self, pick: float) -> int:
        """The slot of a shard, or of what belongs to none, as Dramatiq's queues."""
        slots = [slot_of(tag) for tag in (*self.tags, NAMESPACE)]
        return slots[int(pick * len(slots))]

    def shard_slot(self, pick: float) -> int:
        """The slot of a shard."""
        return slot_of(self.tags[int(pick * len(self.tags))])

    def victim(self, pick: float) -> Server:
        """The primary that a fault is for."""
        return self.system.owner(self.slot(pick))

    def shards_of(self, primary: Server) -> frozenset[int]:
        """The shards that a primary has."""
        owners = [self.system.owner(slot_of(tag)) for tag in self.tags]
        return frozenset(n for n, owner in enumerate(owners) if owner is primary)

    def locks(self) -> list[tuple[Server, str]]:
        """Where dispatch locks are: server and key."""
        return [(self.system.owner(slot_of(tag)), Keys(tag).of("lock")) for tag in self.tags]

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Within it an act of the operator cannot get lost."""
        with self.lossy:
            yield
            self._await_replicas()

    def _await_replicas(self) -> None:
        """Wait until the replicas have what has been written so far, if they are there."""
        for tag in self.tags:
            try:
                with self.system.at(self.system.owner(slot_of(tag))) as raw:
                    raw.set(f"{{{tag}}}:soak", 1)
                    raw.wait(1, _WAIT_MS)
            except redis.RedisError:
                continue

    def stop(self) -> None:
        self.system.stop()
