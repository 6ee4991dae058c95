"""What a memory limit leaves room for, as a pure function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from callbacks.model import Memory

#: The consequence if this user may not read Redis' memory usage.
UNREAD_MEMORY: Final = (
    "enqueue is not refused before Redis itself refuses writes, and neither sent records nor dead"
    " letters are trimmed to save memory"
)


#: The share of its memory limit at which Redis counts as full. The rest is left for settling, for
#: records, and for enqueues before the next check.
FULL_SHARE: Final = 0.9
#: A generous estimate of a sent record's size, index entry included.
SENT_RECORD_BYTES: Final = 600


@dataclass(frozen=True, slots=True)
class Room:
    """What a memory limit allows: whether enqueues are refused, and how many records are kept.

    `dead_max` None: no limit.
    """

    full: bool
    sent_max: int
    dead_max: int | None = None


def is_full(used: int, limit: int) -> bool:
    """Whether Redis counts as full, so that enqueues are refused; `limit` 0: no limit."""
    return limit > 0 and used >= FULL_SHARE * limit


def decide_room(memory: Memory | None, *, sent_max: int, shards: int = 1) -> Room:
    """Refuse enqueues from `FULL_SHARE` of the limit; keep sent records within a fifth of it.

    `memory` None: its usage cannot be read, so no limit is applied. `sent_max`: of this shard;
    `shards`: how many share that fifth.

    Dead letters are kept while there is room. Once Redis is full, they too are trimmed to a fifth,
    oldest first: better to lose a week-old failure than to refuse new callbacks.
    """
    if memory is None or not memory.limit:
        return Room(False, sent_max)
    share = memory.limit // 5 // shards
    sent_max = min(sent_max, share // SENT_RECORD_BYTES)
    if not is_full(memory.used, memory.limit):
        return Room(False, sent_max)
    return Room(True, sent_max, share // max(1, memory.dead_bytes))
