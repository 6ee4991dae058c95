"""Where the primary of a key is: told by Sentinels, or by the nodes of a cluster.

redis-py finds it; this decides when it is asked. While there is no primary, a process asks four
times a second, however many of its threads want to know.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import RedisClusterException
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel

from callbacks.batcher.errors import Elsewhere, WrongForm
from callbacks.forks import renew_after_fork
from callbacks.log import log

Address = tuple[str, int]

#: These have no types.
_sentinel: Final[Any] = Sentinel
_node: Final[Any] = ClusterNode

#: How often a primary is looked for while there is none.
LOOK_AGAIN_S: Final = 0.25
#: The longest that one Sentinel or node may take for its answer, while there are others.
_ANSWER_S: Final = 1.0


def _options(timeout_s: float, count: int) -> dict[str, Any]:
    """The options of connections on which `count` servers are asked, one after the other."""
    each_s = min(_ANSWER_S, timeout_s / count)
    return {"protocol": 2, "socket_timeout": each_s, "socket_connect_timeout": each_s}


class Seen:
    """Where primaries were found last; logs it when one has moved, however many slots it had."""

    def __init__(self) -> None:
        self._last: dict[int, Address] = {}
        self._told: tuple[Address, Address] | None = None
        self._lock = threading.Lock()

    def at(self, slot: int, found: Address) -> Address:
        """Note where a slot's primary is."""
        was = self._last.get(slot)
        if was == found:
            return found
        with self._lock:
            was, self._last[slot] = self._last.get(slot), found
            if was is None or was == found or self._told == (was, found):
                return found
            self._told = (was, found)
        log.warning("primary_moved", was="{}:{}".format(*was), now="{}:{}".format(*found))
        return found


class Sentinels:
    """The primary that Sentinels name."""

    def __init__(
        self, hosts: tuple[Address, ...], master: str, options: Mapping[str, Any], timeout_s: float
    ) -> None:
        """`options`: how to connect to a Sentinel; `timeout_s`: for asking all of them."""
        self.master = master
        kwargs = {**options, **_options(timeout_s, len(hosts)), "retry": Retry(NoBackoff(), 0)}
        self.sentinel: Any = _sentinel(list(hosts), sentinel_kwargs=kwargs)
        renew_after_fork(self)

    def reset_after_fork(self) -> None:
        """Forget what was found: in a forked child, a thread that was noting it does not exist."""
        self._failed: redis.RedisError | None = None
        self._failed_at = float("-inf")
        self._seen = Seen()

    def primary(self) -> Address:
        """Ask for the primary; raises `ConnectionError` if no Sentinel knows one that is up."""
        if self._failed and time.monotonic() - self._failed_at < LOOK_AGAIN_S:
            raise redis.ConnectionError(str(self._failed))
        try:
            host, port = self.sentinel.discover_master(self.master)
        except redis.RedisError as error:
            self._failed = redis.ConnectionError(self._told(error))
            self._failed_at = time.monotonic()
            raise self._failed from error
        self._failed = None
        return self._seen.at(0, (str(host), int(port)))

    def _told(self, error: redis.RedisError) -> str:
        """Why there is no primary, in one line; redis-py says it with all options of its clients.

        The first Sentinel is asked once more, for its own error, such as a certificate's.
        """
        if not isinstance(error, MasterNotFoundError):
            away = isinstance(error, redis.ConnectionError | redis.TimeoutError)
            return str(error) if away else f"Sentinel answers: {error}"
        told = f"no Sentinel names a primary of {self.master} that is up"
        try:
            self.sentinel.sentinels[0].ping()
        except redis.RedisError as own:
            return f"{told}: {own}"
        return told


class Cluster:
    """The primaries of a cluster, and which of them has a key's slot."""

    def __init__(
        self, hosts: tuple[Address, ...], options: Mapping[str, Any], timeout_s: float
    ) -> None:
        """`options`: how to connect to a node; `timeout_s`: for asking all of `hosts`."""
        self._hosts = hosts
        self._options = {**options, **_options(timeout_s, len(hosts))}
        renew_after_fork(self)

    def reset_after_fork(self) -> None:
        """Forget everything: in a forked child, a thread that was asking does not exist."""
        self._lock = threading.Lock()
        self._cluster: Any = None  # a RedisCluster, whose methods have no types
        self._is_outdated = True
        self._asked_at = float("-inf")
        self._failed: redis.RedisError | None = None
        self._seen = Seen()

    def outdated(self) -> None:
        """Have the next call ask the nodes again."""
        self._is_outdated = True

    def primary(self, key: str) -> Address:
        """Find the primary that has a key's slot now; raises if none has, or no node answers."""
        cluster = self._current()
        try:
            node = cluster.get_node_from_key(key)
        except RedisClusterException as error:
            self.outdated()
            tag = key.partition("{")[2].partition("}")[0] or key
            raise Elsewhere(f"no primary has the slot of {tag}") from error
        return self._seen.at(cluster.keyslot(key), (node.host, node.port))

    def primaries(self) -> list[Address]:
        """Every primary that has slots, in a fixed order."""
        return sorted({(node.host, node.port) for node in self._current().get_primaries()})

    def layout(self) -> dict[int, tuple[Address, int]]:
        """Ask again; for each slot that has one, its primary and how many replicas that has."""
        self.outdated()
        slots: Any = self._current().nodes_manager.slots_cache
        return {
            slot: ((nodes[0].host, nodes[0].port), len(nodes) - 1)
            for slot, nodes in slots.items()
            if nodes
        }

    def _current(self) -> Any:
        cluster = self._cluster
        if cluster is not None and not self._is_outdated:
            return cluster
        with self._lock:
            if self._is_outdated and time.monotonic() - self._asked_at >= LOOK_AGAIN_S:
                self._look()
            if self._cluster is None:
                raise redis.ConnectionError(str(self._failed))
            return self._cluster

    def _look(self) -> None:
        """Ask the nodes that are known, and if none answers, those that were given."""
        self._is_outdated = False
        try:
            self._cluster = self._refreshed() or self._connected()
        except redis.RedisError as error:
            self._is_outdated = True
            self._failed = error
            raise
        finally:
            self._asked_at = time.monotonic()

    def _refreshed(self) -> Any:
        if self._cluster is not None:
            try:
                self._cluster.nodes_manager.initialize()
            except (redis.RedisError, RedisClusterException):
                return None
        return self._cluster

    def _connected(self) -> Any:
        nodes: Any = [_node(host, port) for host, port in self._hosts]
        try:
            cluster: Any = RedisCluster(
                startup_nodes=nodes,
                require_full_coverage=False,
                retry=Retry(NoBackoff(), 0),
                **self._options,
            )
        except RedisClusterException as error:
            raise self._told(error) from error
        cluster.disconnect_connection_pools()
        return cluster

    def _told(self, error: RedisClusterException) -> redis.RedisError:
        """What to raise where no node could say what the cluster looks like."""
        cause = error.__cause__
        if isinstance(cause, RedisClusterException):  # which stands for any error reply
            cause = cause.__context__
        if isinstance(cause, redis.ResponseError) and "cluster support disabled" in str(cause):
            hosts = ", ".join(f"{host}:{port}" for host, port in self._hosts)
            return WrongForm(
                f"{hosts} is no node of a cluster; write REDIS_URL as redis://host:port/db"
            )
        return cause if isinstance(cause, redis.RedisError) else redis.ConnectionError(str(error))


_PAUSES_S: Final = (0.0, 0.02, 0.04, 0.08, 0.16, 0.25)


def until_found(
    call: Callable[[], Any], patience_s: float, sleep: Callable[[float], None] = time.sleep
) -> Any:
    """Call, and again as long as it raises `Elsewhere`; after `patience_s` that is raised.

    A slot is on its way from one primary to another for as long as its keys are moved.
    """
    until = time.monotonic() + patience_s
    tries = 0
    while True:
        try:
            return call()
        except Elsewhere:
            pause_s = _PAUSES_S[min(tries, len(_PAUSES_S) - 1)]
            tries += 1
            if time.monotonic() + pause_s >= until:
                raise
            sleep(pause_s)
