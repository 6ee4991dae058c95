"""An overview in which all is well, for tests of what is judged by it."""

from __future__ import annotations

from typing import Any, Final

from callbacks.batcher.inspector import TOTALS, Overview

NOW: Final = 1_000_000_000


def books(**more: Any) -> Overview:
    """All is well, one was sent before, and the totals balance whatever is queued or processing."""
    owed = more.get("queued", 0) + more.get("processing", 0)
    given = {
        "now_ms": NOW, "queued": 0, "processing": 0, "dead": 0, "sent_records": 0,
        "destinations_waiting": 0, "oldest_due_ms": None, "lock": "", "data_since_ms": None,
        "data_lost_ms": None, "paused_since_ms": None,
        "next_batch_ms": None, "last_batch_ms": None, "per_minute": {},
        "stagger_us": None, "stagger_why": "", "ticked_ms": NOW,
        "totals": dict.fromkeys(TOTALS, 0) | {"accepted": owed + 1, "sent": 1},
    }  # fmt: skip
    return Overview(**given | more)
