"""What a memory limit leaves room for, as a pure function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from callbacks.model import Memory

#: What follows if a user may not read how much memory is used.
UNREAD_MEMORY: Final = (
    "enqueue is not refused before Redis itself refuses writes, and neither sent records nor dead"
    " letters are cut down for memory"
)


#: From this share of its memory limit on Redis counts as full. The rest is for settling, for
#: records, and for what comes in before the next look.
FULL_SHARE: Final = 0.9
#: A sent record with its place in the index, measured generously.
SENT_RECORD_BYTES: Final = 500


@dataclass(frozen=True, slots=True)
class Room:
    """What a memory limit allows: whether enqueues are refused, and how many are remembered.

    `dead_max` None: as many dead letters as there are.
    """

    full: bool
    sent_max: int
    dead_max: int | None = None


def is_full(used: int, limit: int) -> bool:
    """Whether so many bytes of a memory limit are used that enqueue is refused; 0: no limit."""
    return limit > 0 and used >= FULL_SHARE * limit


def decide_room(memory: Memory | None, *, sent_max: int) -> Room:
    """Refuse enqueues from `FULL_SHARE` of the limit; keep sent records within a fifth of it.

    None: nobody may read how much is used, so there is no limit that we could keep.

    Dead letters stay as long as there is room. Where there is none they, too, are cut down to a
    fifth, the oldest first: better a week-old failure forgotten than new callbacks refused.
    """
    if memory is None or not memory.limit:
        return Room(False, sent_max)
    sent_max = min(sent_max, memory.limit // 5 // SENT_RECORD_BYTES)
    if not is_full(memory.used, memory.limit):
        return Room(False, sent_max)
    return Room(True, sent_max, memory.limit // 5 // max(1, memory.dead_bytes))
