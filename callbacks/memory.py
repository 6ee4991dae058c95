"""How much memory Redis uses and may use, and what part of it dead letters take."""

from __future__ import annotations

from typing import Any, Final

from callbacks.model import Memory
from callbacks.scripts import Scripts

#: So many dead letters are measured for what one takes.
DEAD_SAMPLE: Final = 20


def read_memory(scripts: Scripts) -> Memory:
    """Read how much memory Redis uses, how much it may use, and what a dead letter takes."""
    info: Any = scripts.client.info("memory")
    used, limit = int(info["used_memory"]), int(info.get("maxmemory", 0))
    return Memory(used, limit, _dead_bytes(scripts) if limit else 0)


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
