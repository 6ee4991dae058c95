"""Checks whether a Redis is fit for callbacks, and what to do if not. Pure.

Each check is one function of facts that were read before; it returns a verdict, what was found,
and what to do. What may not be read (managed services forbid `CONFIG`) is a warning, never a
guess.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from callbacks.monitor.checks import Check, failure, ok, unknown, warning
from callbacks.policy.room import FULL_SHARE, UNREAD_MEMORY, is_full
from callbacks.text import counted

#: The first version with `ZADD LT`, which the scripts use.
LEAST_VERSION: Final = (6, 2)
#: The first version of Redis with `WAITAOF`; every Valkey has it.
WAITAOF_VERSION: Final = (7, 2)
#: With `appendfsync everysec` Redis says within this time that it is on the disk.
_EVERYSEC_S: Final = 2.0

_TIGHT_MEMORY: Final = 0.75
_TIGHT_CLIENTS: Final = 0.8
_NO_CLIENTS_LEFT: Final = 0.95
#: A send takes about five round trips, so a slower Redis slows down sending.
_SLOW_MS: Final = 20.0
_TOO_SLOW_MS: Final = 250.0
#: A connection is rarely idle for longer between two commands.
_SHORT_IDLE_S: Final = 30
_SKEW_MS: Final = 1_000
#: periodiq's messages are dropped after 30 s.
_GREAT_SKEW_MS: Final = 30_000
_MB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Server:
    """What a server says about itself; None if it does not say, or we may not read it.

    Memory is in bytes; `limit` 0: none; `idle_s` 0: idle connections are never closed. `machine`
    is the memory of its machine, `primary` the server it replicates; `shards` is 0 without
    cluster mode. `replicas` are connected; without `least_replicas` of them it takes no writes.
    """

    name: str | None = None
    version: str | None = None
    role: str | None = None
    primary: str = ""
    shards: int | None = None
    policy: str | None = None
    evicted: int = 0
    used: int | None = None
    limit: int | None = None
    machine: int | None = None
    aof: bool | None = None
    fsync: str | None = None
    save: str | None = None
    aof_ok: bool = True
    snapshot_ok: bool = True
    stops: bool | None = None
    clients: int | None = None
    most_clients: int | None = None
    idle_s: int | None = None
    replicas: int | None = None
    least_replicas: int | None = None


@dataclass(frozen=True, slots=True)
class Trip:
    """Round trips to Redis, and how far its clock is ahead of ours, give or take `blur_ms` (ms)."""

    median_ms: float
    worst_ms: float
    ahead_ms: int
    blur_ms: int


def judge_server(
    server: Server,
    trip: Trip,
    *,
    processes: int,
    per_process: int,
    alone: bool = True,
    wait_for: str = "",
    wait_s: float = 1.0,
) -> list[Check]:
    """Run all checks of a server that answers; `processes` is the number of worker processes.

    `alone`: the URL names this one server, neither Sentinels nor a cluster. `wait_for`: what an
    enqueue waits for, for `wait_s` at most.
    """
    return [
        version(server),
        role(server),
        *([cluster(server)] if alone else []),
        eviction(server.policy, server.limit, server.evicted),
        memory(server),
        persistence(server),
        durability(server, wait_for, wait_s),
        latency(trip),
        connections(server, processes=processes, per_process=per_process),
        timeout(server),
        clock(trip),
    ]


# Server


def version(server: Server) -> Check:
    """Accept any Valkey, and Redis from 6.2 on."""
    if server.version is None:
        return unknown("version", "the version")
    found = f"{server.name or 'Redis'} {server.version}"
    if server.name == "Valkey":
        return ok("version", found)
    if server.name not in (None, "Redis"):
        return warning("version", f"{found}: not tested with callbacks", "use Redis or Valkey")
    numbers = tuple(int(n) for n in re.findall(r"\d+", server.version)[:2])
    if numbers < LEAST_VERSION:
        return failure("version", f"{found} is too old", "use Redis 6.2 or later, or Valkey")
    return ok("version", found)


def role(server: Server) -> Check:
    """Refuse replicas: they reject every write."""
    if server.role is None:
        return unknown("role", "its role (primary or replica)")
    if server.role == "master":
        return ok("role", "primary")
    of = f" of {server.primary}" if server.primary else ""
    return failure(
        "role",
        f"replica{of}: it refuses every write (READONLY)",
        "point REDIS_URL at the primary, or promote this one: redis-cli REPLICAOF NO ONE",
    )


def cluster(server: Server) -> Check:
    """Whether the server is what its URL says; usually that is noticed when connecting."""
    if server.shards is None:
        return unknown("cluster", "cluster-enabled")
    if server.shards == 0:
        return ok("cluster", "off")
    found = "on, but REDIS_URL names one server: MOVED is not followed"
    return failure("cluster", found, "write REDIS_URL as redis+cluster://host:port")


# Memory


def eviction(policy: str | None, limit: int | None, evicted: int = 0) -> Check:
    """Judge `maxmemory-policy`: all but `noeviction` delete keys that must stay.

    `volatile-...` deletes only keys with a time to live. Ours are the state of each destination
    (pace, breaker, interval), its requests in flight, the lock and the rates: no callback is lost,
    but the limits that protect receivers are.
    """
    if policy is None:
        return unknown("eviction", "maxmemory-policy")
    gone = f"; {evicted:,} keys evicted since Redis started" if evicted else ""
    if policy == "noeviction" and gone:
        return warning("eviction", f"noeviction now{gone}", "callbacks audit lists what is missing")
    if policy == "noeviction":
        return ok("eviction", "noeviction: a full Redis refuses writes and deletes nothing")
    doomed = "any key, so that callbacks are lost"
    if policy.startswith("volatile-"):
        doomed = "paces, open breakers and limits of destinations: receivers get too much"
    now = " (there is no limit yet)" if limit == 0 else ""
    after = ", then see callbacks audit" if gone else ""
    return failure(
        "eviction",
        f"{policy}: at its memory limit{now} Redis deletes {doomed}{gone}",
        "redis-cli CONFIG SET maxmemory-policy noeviction, then CONFIG REWRITE"
        f" (Heroku: heroku redis:maxmemory --policy noeviction){after}",
    )


def memory(server: Server) -> Check:
    """How near the memory limit is."""
    used, limit = server.used, server.limit
    if used is None or limit is None:
        return warning(
            "memory",
            f"what INFO says is unknown: this user may not read it, so {UNREAD_MEMORY}",
            "ask whoever runs this Redis what INFO says, or let this user run it: redis-cli ACL"
            " SETUSER <user> +info",
        )
    if not limit:
        size = (
            f"{server.machine * 3 // 4 // _MB}mb, three quarters of its machine"
            if server.machine
            else "<bytes>"
        )
        return warning(
            "memory",
            f"{_mb(used)} used, no limit: Redis is killed when its machine runs out of memory",
            f"redis-cli CONFIG SET maxmemory {size} (less if Redis shares the machine or"
            " runs in a container), then CONFIG REWRITE",
        )
    found = f"{_mb(used)} of {_mb(limit)} used ({used / limit:.0%})"
    todo = (
        "raise maxmemory (Heroku: a larger plan). To free memory now, start more workers so that"
        " the queue drains, lower CALLBACKS_SENT_MAX, or if nothing else helps, delete dead letters"
        " that nobody needs any more (callbacks dead purge)"
    )
    if is_full(used, limit):
        return failure("memory", f"{found}: enqueue raises QueueFull", todo)
    if used >= _TIGHT_MEMORY * limit:
        at = f"{FULL_SHARE:.0%}"
        return warning("memory", f"{found}: from {at} on enqueue raises QueueFull", todo)
    return ok("memory", found)


def _mb(size: int) -> str:
    return f"{size / _MB:,.1f} MB"


# Persistence


def persistence(server: Server) -> Check:
    """What survives a restart of Redis, and whether its disk makes it refuse writes."""
    broken = _broken_disk(server)
    if broken is not None:
        return broken
    if server.aof is None:
        return unknown("persistence", "appendonly")
    if server.aof:
        return _append_only(server)
    turn_on = (
        "redis-cli CONFIG SET appendonly yes, then CONFIG REWRITE (Heroku: a premium plan;"
        " mini keeps nothing)"
    )
    if server.save:
        found = f"snapshots only (save {server.save}): what came since the last one is lost"
        return warning("persistence", f"{found} when Redis restarts", turn_on)
    unread = " (save is unknown: this user may not read it)" if server.save is None else ""
    found = f"none{unread}: the queue is lost when Redis restarts"
    return warning("persistence", found, turn_on)


def _append_only(server: Server) -> Check:
    if server.fsync == "no":
        return warning(
            "persistence",
            "append-only file, appendfsync no: half a minute of callbacks can be lost",
            "redis-cli CONFIG SET appendfsync everysec, then CONFIG REWRITE",
        )
    how = f"appendfsync {server.fsync}" if server.fsync else "appendfsync is unknown"
    return ok("persistence", f"append-only file, {how}")


def _broken_disk(server: Server) -> Check | None:
    look = "free space on its disk (df -h; redis-cli CONFIG GET dir), and see the log of Redis"
    if server.aof and not server.aof_ok:
        found = "the last write to the append-only file failed: Redis refuses every write"
        return failure("persistence", found, look)
    if server.snapshot_ok or server.save == "":
        return None
    found = "the last snapshot failed"
    if server.stops and server.save:
        return failure("persistence", f"{found}: Redis refuses every write (MISCONF)", look)
    return warning("persistence", found, look)


def durability(server: Server, wait_for: str, wait_s: float) -> Check:
    """Whether what `CALLBACKS_WAIT_FOR` asks for can be had."""
    if not wait_for:
        found = "enqueue returns when Redis has a callback in memory (CALLBACKS_WAIT_FOR is empty)"
        return ok("durability", found)
    found = f"enqueue waits for {wait_for}, {wait_s:g} s at most"
    parts = wait_for.split("+")
    for problem in (
        _of_the_disk(server, wait_s) if "aof" in parts else None,
        _of_the_replicas(server) if "replica" in parts else None,
    ):
        if problem is not None:
            return replace(problem, found=f"{found}; {problem.found}")
    return ok("durability", found)


def _of_the_disk(server: Server, wait_s: float) -> Check | None:
    raises = "every enqueue raises NotDurable"
    numbers = tuple(int(n) for n in re.findall(r"\d+", server.version or "")[:2])
    if server.name == "Redis" and numbers < WAITAOF_VERSION:
        found = f"Redis {server.version} has no WAITAOF: {raises}"
        return failure("durability", found, "use Redis 7.2 or later, or CALLBACKS_WAIT_FOR=replica")
    if server.aof is False:
        found = f"appendonly is off: {raises}"
        return failure("durability", found, "redis-cli CONFIG SET appendonly yes, CONFIG REWRITE")
    if server.fsync == "no" or (server.fsync == "everysec" and wait_s < _EVERYSEC_S):
        found = f"appendfsync {server.fsync} may take longer"
        todo = "redis-cli CONFIG SET appendfsync always"
        return warning("durability", found, f"{todo}, or CALLBACKS_WAIT_TIMEOUT=3")
    return None


def _of_the_replicas(server: Server) -> Check | None:
    if server.replicas == 0:
        found = "no replica is connected: every enqueue raises NotDurable"
        return failure("durability", found, "connect a replica, or CALLBACKS_WAIT_FOR=aof")
    if server.least_replicas == 0:
        found = "min-replicas-to-write is 0: cut off from its replicas it goes on accepting"
        return warning("durability", found, "redis-cli CONFIG SET min-replicas-to-write 1")
    return None


# Connections


def latency(trip: Trip) -> Check:
    """Judge the round trip: each step of a callback takes one."""
    found = f"{trip.median_ms:.1f} ms per round trip, {trip.worst_ms:.1f} ms at worst"
    if trip.median_ms <= _SLOW_MS:
        return ok("latency", found)
    todo = (
        "run workers and Redis in one region; look for slow commands (redis-cli SLOWLOG GET) and"
        " a busy machine (redis-cli --latency)"
    )
    if trip.median_ms <= _TOO_SLOW_MS:
        return warning("latency", f"{found}: sends fall behind their pace", todo)
    return failure("latency", f"{found}: too slow to keep leases and paces", todo)


def connections(server: Server, *, processes: int, per_process: int) -> Check:
    """Whether Redis has room for the connections that are open or may be opened."""
    clients, most = server.clients, server.most_clients
    if clients is None or most is None:
        return unknown("connections", "maxclients")
    may = processes * per_process
    found = f"{clients:,} of {most:,} open"
    if processes:
        group = counted(processes, "worker process", "worker processes")
        found += f"; {group} with {per_process} each may open {may:,}"
    todo = (
        "lower CALLBACKS_REDIS_MAX_CONNECTIONS, run fewer processes, or raise maxclients"
        " (Heroku: a larger plan)"
    )
    if clients >= _NO_CLIENTS_LEFT * most:
        return failure("connections", f"{found}: the next ones are refused", todo)
    if clients >= _TIGHT_CLIENTS * most or may > _TIGHT_CLIENTS * most:
        return warning("connections", found, todo)
    return ok("connections", found)


def timeout(server: Server) -> Check:
    """Judge `timeout`: if it is very short, connections are reopened all the time."""
    if server.idle_s is None:
        return unknown("timeout", "timeout")
    if server.idle_s == 0:
        return ok("timeout", "0: idle connections stay open")
    found = f"idle connections are closed after {server.idle_s} s"
    if server.idle_s >= _SHORT_IDLE_S:
        return ok("timeout", f"{found}, and opened again when needed")
    return warning(
        "timeout",
        f"{found}: commands sent at that moment fail and are repeated",
        "redis-cli CONFIG SET timeout 300, then CONFIG REWRITE",
    )


def clock(trip: Trip) -> Check:
    """Whether this machine's clock agrees with that of Redis, which decides what is due."""
    off_ms = max(0, abs(trip.ahead_ms) - trip.blur_ms)
    side = "ahead of" if trip.ahead_ms > 0 else "behind"
    found = f"that of Redis is {abs(trip.ahead_ms) / 1000:,.1f} s {side} this machine's"
    todo = "correct the clock that is wrong (timedatectl set-ntp true)"
    if off_ms > _GREAT_SKEW_MS:
        harm = (
            "the scheduler's messages are dropped, live processes count as dead, and if it is the"
            " clock of Redis that is wrong, receivers refuse signatures from 5 min on"
        )
        return failure("clock", f"{found}: {harm}", todo)
    if off_ms > _SKEW_MS:
        return warning("clock", f"{found}: messages come early or late", todo)
    return ok("clock", f"the same as that of Redis, give or take {max(off_ms, trip.blur_ms, 1)} ms")
