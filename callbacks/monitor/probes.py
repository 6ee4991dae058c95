"""What `doctor` reads: server, latency, workers, totals. Changes nothing.

What Redis does not let us read is None; only an unreachable Redis raises.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import redis
from redis import Redis

from callbacks.batcher.clock import redis_ms
from callbacks.batcher.inspector import (
    Inspector,
    Overview,
    Survey,
    is_mark,
    is_paused,
    overview,
    survey,
)
from callbacks.batcher.keys import Keys, arrivals_channel
from callbacks.batcher.routes import AllScripts, as_all
from callbacks.batcher.scripts import Scripts
from callbacks.monitor.redis_checks import Server, Trip
from callbacks.monitor.trouble import Trouble, worst
from callbacks.request.urls import Scope, host_of

_PINGS: Final = 20
#: If fewer fit into this time, Redis is slow enough to judge by them.
_PINGS_S: Final = 3.0
_CLOCK_LOOKS: Final = 5
#: A worker that is told to look for messages updates its heartbeat with that.
_LOOK_S: Final = 0.6
_LOOK_AGAIN_S: Final = 0.1
#: The longest wait for a tick; if ticks are further apart, seeing none means nothing.
_PATIENCE_S: Final = 5.0
_MOST_HEARTBEATS: Final = 500
_MOST_DESTINATIONS: Final = 5_000
#: Keys per SCAN, half a millisecond, and for how long they are looked through: some million.
_SCAN_STEP: Final = 1_000
_SCAN_S: Final = 2.0
#: A callback without a secret is tried again after a minute at most.
_UNSIGNED_SHOWN_MS: Final = 90_000

#: Connecting failed, or was refused.
UNREACHABLE: Final = (redis.ConnectionError, redis.TimeoutError)


@dataclass(frozen=True, slots=True)
class Workers:
    """Workers seen at work. `polling`: processes that fetched messages while we watched.

    `ticking`: whether a worker did its regular duties within the last interval; None if the
    interval is too long to wait for.
    """

    polling: int
    ticking: bool | None


@dataclass(frozen=True, slots=True)
class Work:
    """The state of the work: totals, what is held, destinations (the most recently used ones).

    `unsigned`: destinations that recently had callbacks without a secret; `unsigned_why`: the
    last error. `trouble`: the destinations in trouble, worst first. `others`:
    the other namespaces on this Redis.
    """

    books: Overview
    survey: Survey
    broken: int
    paused: int
    destinations: int
    failed_messages: int
    unsigned: int = 0
    unsigned_why: str = ""
    trouble: tuple[Trouble, ...] = ()
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Clock:
    """The clocks that the probes use."""

    monotonic: Callable[[], float] = time.monotonic
    now_s: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep


# The server


def read_server(client: Redis) -> Server:
    """Read `INFO`, and `CONFIG` if that is allowed."""
    info: dict[str, Any] = _allowed(client.info) or {}
    config = _config(client)

    def either(field: str, name: str) -> Any:
        return info.get(field, config.get(name))

    return Server(
        name=_name(info),
        version=_text(info.get("valkey_version", info.get("redis_version"))),
        role=_text(info.get("role")),
        primary=f"{info['master_host']}:{info['master_port']}" if "master_host" in info else "",
        shards=_shards(client, info),
        policy=_text(either("maxmemory_policy", "maxmemory-policy")),
        evicted=int(info.get("evicted_keys", 0)),
        used=_int(info.get("used_memory")),
        limit=_int(either("maxmemory", "maxmemory")),
        machine=_int(info.get("total_system_memory")),
        aof=_flag(either("aof_enabled", "appendonly")),
        fsync=config.get("appendfsync"),
        save=config.get("save"),
        aof_ok=info.get("aof_last_write_status", "ok") == "ok",
        snapshot_ok=info.get("rdb_last_bgsave_status", "ok") == "ok",
        stops=_flag(config.get("stop-writes-on-bgsave-error")),
        clients=_int(info.get("connected_clients")),
        most_clients=_int(either("maxclients", "maxclients")),
        idle_s=_int(config.get("timeout")),
        replicas=_int(info.get("connected_slaves")),
        least_replicas=_int(config.get("min-replicas-to-write")),
    )


_CONFIG: Final = (
    "appendfsync",
    "appendonly",
    "maxclients",
    "maxmemory",
    "maxmemory-policy",
    "min-replicas-to-write",
    "save",
    "stop-writes-on-bgsave-error",
    "timeout",
)


def _config(client: Redis) -> dict[str, str]:
    """Read each by itself: Redis 6.2 takes one name per call, and a service may refuse some."""
    with client.pipeline(transaction=False) as pipe:
        for name in _CONFIG:
            pipe.config_get(name)
        answers = pipe.execute(raise_on_error=False)
    found: dict[str, str] = {}
    for answer in answers:
        if isinstance(answer, dict):
            found |= {_text(name) or "": _text(value) or "" for name, value in answer.items()}
    return found


def _name(info: dict[str, Any]) -> str | None:
    if "valkey_version" in info:
        return "Valkey"
    name = info.get("server_name") or ("Dragonfly" if "dragonfly_version" in info else None)
    return str(name).capitalize() if name else "Redis" if info else None


def _shards(client: Redis, info: dict[str, Any]) -> int | None:
    enabled = _flag(info.get("cluster_enabled"))
    if not enabled:
        return None if enabled is None else 0
    told: dict[str, Any] = _allowed(lambda: client.execute_command("CLUSTER INFO")) or {}  # type: ignore[no-untyped-call]
    return _int(told.get("cluster_size")) or 2  # unknown: assume more than one


def _allowed(read: Callable[[], Any]) -> Any:
    """The result of a command; None if this user may not run it."""
    try:
        return read()
    except UNREACHABLE:
        raise
    except redis.RedisError:
        return None


# Latency and clocks


def read_trip(client: Redis, clock: Clock) -> Trip:
    """Time some round trips, and compare the clocks in the quickest of a few readings."""
    client.ping()  # opens the connection
    took: list[float] = []
    started = clock.monotonic()
    while len(took) < _PINGS and clock.monotonic() - started < _PINGS_S:
        before = clock.monotonic()
        client.ping()
        took.append((clock.monotonic() - before) * 1000)
    ahead_ms, trip_ms = min(
        (_ahead(client, clock) for _ in range(_CLOCK_LOOKS)), key=lambda p: p[1]
    )
    return Trip(statistics.median(took), max(took), round(ahead_ms), round(trip_ms / 2))


def _ahead(client: Redis, clock: Clock) -> tuple[float, float]:
    """How far the clock of Redis is ahead of ours, and how long reading it took (ms)."""
    before = clock.now_s()
    now_ms = redis_ms(client)
    after = clock.now_s()
    return now_ms - (before + after) * 500, max(0.0, after - before) * 1000


# Workers


def read_workers(
    client: Redis,
    namespace: str,
    queue: str,
    *,
    check_interval_s: float,
    clock: Clock,
    messages: str = "",
) -> Workers:
    """Watch for a moment which processes fetch messages, and whether one ticks.

    Producers have heartbeats too, but theirs change only when they send a message; so those that
    change while we watch are workers. Idle ones look for messages every few seconds, so they are
    told to look now. Clocks of other machines are not compared. `messages`: the prefix of
    Dramatiq's keys, if it is not the namespace.
    """
    messages = messages or namespace
    tick = Keys(namespace).of("tick")
    gap_s = 0.1 * check_interval_s + 1  # between the end of a tick's key and the next tick
    first, started = _heartbeats(client, messages), clock.monotonic()
    ticking, polling = False, 0
    _allowed(lambda: client.publish(arrivals_channel(messages), f"{messages}:{queue}"))
    while True:
        clock.sleep(_LOOK_AGAIN_S)
        took = clock.monotonic() - started
        ticking = ticking or bool(client.exists(tick))
        polling = sum(first.get(id) != at for id, at in _heartbeats(client, messages).items())
        if took >= (_LOOK_S if ticking and polling else min(_PATIENCE_S, gap_s)):
            break
    return Workers(polling, None if not ticking and gap_s > _PATIENCE_S else ticking)


def _heartbeats(client: Redis, messages: str) -> dict[bytes, float]:
    key = f"{messages}:__heartbeats__"
    rows: Any = client.zrange(key, 0, _MOST_HEARTBEATS - 1, desc=True, withscores=True)
    return dict(rows)


# Work


def read_work(
    scripts: Scripts | AllScripts, namespace: str, queue: str, *, messages: str = ""
) -> Work:
    """Read the totals, and count what is unusual; `messages` as for `read_workers`."""
    client, found = scripts.client, as_all(scripts)
    books = overview(scripts)
    newest = found.first("destinations", _MOST_DESTINATIONS, newest=True)
    names = [name for name in newest if not is_mark(name)]
    whys = found.home.stream(("HGET", shard.keys.of("state"), "unsigned") for shard in found.shards)
    why = next(filter(None, whys), None)
    commands: list[tuple[str, ...]] = []
    for name in names:
        keys = found.of(name).keys
        mark = Scope(host_of(name)).mark
        commands.append(("HMGET", keys.of("dest:", name), "broken", "paused", "unsigned_at"))
        commands.append(("HMGET", keys.of("dest:", mark), "paused", name))
    rows = found.home.stream(commands)
    failed = int(client.zcard(f"{messages or namespace}:{queue}.XQ"))
    own, marks, late = rows[::2], rows[1::2], books.now_ms - _UNSIGNED_SHOWN_MS
    return Work(
        books=books,
        survey=survey(scripts),
        broken=sum(bool(broken) for broken, *_ in own),
        paused=sum(map(is_paused, names, (paused for _, paused, *_ in own), marks)),
        unsigned=sum(int(at or 0) > late for *_, at in own),
        unsigned_why=(_text(why) or "").rstrip("."),
        destinations=len(names),
        failed_messages=failed,
        others=read_namespaces(client, namespace),
        trouble=tuple(worst(Inspector(scripts).troubled(), books.now_ms)),
    )


def read_namespaces(
    client: Redis, namespace: str, *, monotonic: Callable[[], float] = time.monotonic
) -> tuple[str, ...]:
    """The other namespaces on this Redis, as far as they are found within `_SCAN_S`."""
    found: set[str] = set()
    started, cursor = monotonic(), 0
    while True:
        scan = partial(client.scan, cursor, match="{*}:counters", count=_SCAN_STEP)
        answer: Any = _allowed(scan)
        if answer is None:
            return ()
        cursor, keys = answer
        tags = (key.decode(errors="replace")[1:].partition("}")[0] for key in keys)
        found.update(tag.partition(":")[0] for tag in tags)
        if not cursor or monotonic() - started > _SCAN_S:
            return tuple(sorted(found - {namespace}))


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _int(value: Any) -> int | None:
    try:
        return None if value is None else int(value)
    except ValueError:
        return None


def _flag(value: Any) -> bool | None:
    return None if value is None else _text(value) in {"1", "yes"}
