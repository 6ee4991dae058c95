"""What `doctor` reads where Redis is more than one server. Changes nothing."""

from __future__ import annotations

from collections import Counter
from typing import Any

import redis
from redis import Redis

from callbacks.batcher.client import SentinelPool, ShardPool
from callbacks.monitor.checks import Check
from callbacks.monitor.topology_checks import ClusterFacts, SentinelFacts, cluster, sentinels


def primaries(client: Redis) -> dict[str, Redis]:
    """A client for each primary, by its address; without a cluster the client itself."""
    pool: object = client.connection_pool
    if not isinstance(pool, ShardPool):
        return {"": client}
    return {
        f"{host}:{port}": Redis(connection_pool=pool.nodes.pool((host, port)))
        for host, port in pool.nodes.cluster.primaries()
    }


def connections_each(client: Redis) -> int:
    """How many connections to one server a process may open at most."""
    pool: Any = client.connection_pool
    return pool.nodes.most_each() if isinstance(pool, ShardPool) else int(pool.max_connections)


def judge_topology(client: Redis) -> list[Check]:
    """Check what is around the server: Sentinels, or the other nodes of a cluster."""
    pool: object = client.connection_pool
    if isinstance(pool, ShardPool):
        return [cluster(read_cluster(pool))]
    if isinstance(pool, SentinelPool):
        return [sentinels(read_sentinels(pool))]
    return []


def read_cluster(pool: ShardPool) -> ClusterFacts:
    """Read which primaries there are, and which have a replica; raises if no node answers."""
    parts = pool.nodes.cluster.layout()
    slots: Counter[str] = Counter()
    guarded: set[str] = set()
    for (host, port), replicas in parts.values():
        name = f"{host}:{port}"
        slots[name] += 1
        guarded |= {name} if replicas else set()
    names = tuple(sorted(slots))
    alone = tuple(n for n in names if n not in guarded)
    return ClusterFacts(names, alone, slots.total(), _all_stop(pool))


def _all_stop(pool: ShardPool) -> bool:
    """Whether a slot without a primary stops one that is there, as far as we may know.

    Redis' default is yes.
    """
    name = "cluster-require-full-coverage"
    for address in pool.nodes.cluster.primaries():
        client = Redis(connection_pool=pool.nodes.pool(address))
        try:
            if client.config_get(name).get(name) == "yes":
                return True
        except redis.ResponseError:
            continue
    return False


def read_sentinels(pool: SentinelPool) -> SentinelFacts:
    """Ask each Sentinel in the URL for what it knows."""
    told: list[Any] = []
    states: list[dict[str, Any]] = []
    replicas = 0
    name = pool.sentinels.master
    sentinel: Any = pool.sentinels.sentinel
    for each in tuple(sentinel.sentinels):
        try:
            state = each.sentinel_masters().get(name)
            told.append(each)
            if state and sentinel.check_master_state(state, name):
                states.append(state)
                replicas = max(replicas, len(sentinel.filter_slaves(each.sentinel_slaves(name))))
        except redis.RedisError:
            continue
    first = states[0] if states else {}
    return SentinelFacts(
        given=len(sentinel.sentinels),
        answering=len(told),
        known=len(states),
        primary=f"{first['ip']}:{first['port']}" if first else "",
        others=int(first.get("num-other-sentinels", 0)),
        quorum=int(first.get("quorum", 0)),
        replicas=replicas,
    )
