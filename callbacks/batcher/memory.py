"""How much memory Redis uses and may use, and how much of it a dead letter takes."""

from __future__ import annotations

from typing import Any, Final

import redis

from callbacks.batcher.routes import AllScripts, as_all
from callbacks.batcher.scripts import Scripts
from callbacks.model import Memory
from callbacks.policy.room import is_full

#: How many dead letters are measured to estimate the size of one.
DEAD_SAMPLE: Final = 20


def read_memory(scripts: Scripts | AllScripts) -> Memory | None:
    """Read how much memory Redis uses and may use; None if this user may not ask.

    The size of a dead letter is only measured if Redis is near its limit.
    """
    try:
        info: Any = scripts.client.info("memory")
    except redis.ResponseError:  # NOPERM, or the command was renamed
        return None
    used, limit = int(info["used_memory"]), int(info.get("maxmemory", 0))
    measured = (_dead_bytes(shard) for shard in as_all(scripts).shards)
    return Memory(used, limit, next(filter(None, measured), 0) if is_full(used, limit) else 0)


def _dead_bytes(scripts: Scripts) -> int:
    client, keys = scripts.client, scripts.keys
    sample: Any = client.zrandmember(keys.of("dead"), DEAD_SAMPLE)
    if not sample:
        return 0
    with client.pipeline(transaction=False) as pipe:
        for id in sample:
            pipe.memory_usage(keys.of("cb:", id.decode()), samples=0)
            pipe.memory_usage(keys.of("rec:", id.decode()), samples=0)
        sizes = pipe.execute()
    return sum(size or 0 for size in sizes) // len(sample)
