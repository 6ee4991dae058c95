"""What people did: who, what, to what, and why. Kept in Redis, the newest 1,000."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from callbacks.batcher.routes import AllScripts, as_all
from callbacks.batcher.scripts import Scripts

#: Longer words of people are cut.
_MOST_CHARS: Final = 300


@dataclass(frozen=True, slots=True)
class Act:
    """One act of a person, at a time in seconds since 1970.

    `act` is `pause`, `resume`, `cancel`, `replay`, `purge` or `repair`, `target` what it was done
    to; `who` did it, and why (`reason`), if they said so. `count`: of how many, None if it is of
    one thing or of all.
    """

    at: float
    act: str
    target: str
    who: str = ""
    reason: str = ""
    count: int | None = None


def entry_of(act: str, target: str, *, who: str, reason: str = "", count: int | None = None) -> str:
    """Write an act as it is stored; Redis adds the time."""
    words = {"act": act, "target": target, "who": who, "reason": reason}
    entry: dict[str, Any] = {name: word[:_MOST_CHARS] for name, word in words.items() if word}
    if count is not None:
        entry["count"] = count
    return json.dumps(entry, separators=(",", ":"))


def read_act(raw: bytes) -> Act:
    """Read a stored act."""
    at_ms, _, entry = raw.decode().partition(" ")
    given = json.loads(entry)
    return Act(
        at=int(at_ms) / 1000,
        act=given.get("act", ""),
        target=given.get("target", ""),
        who=given.get("who", ""),
        reason=given.get("reason", ""),
        count=given.get("count"),
    )


def read_journal(scripts: Scripts | AllScripts) -> list[Act]:
    """Read all acts that are kept, the newest first."""
    home = as_all(scripts).home
    rows: Any = home.client.lrange(home.keys.of("journal"), 0, -1)
    return [read_act(raw) for raw in rows]


def paused_by(at_ms: str | None, entry: str | None) -> Act | None:
    """Who paused it, when and why; None if it is not paused."""
    return None if at_ms is None else read_act(f"{at_ms} {entry or '{}'}".encode())


def told(act: Act) -> str:
    """Who did it, and why, in a few words; empty if that is not known."""
    return (f"by {act.who}" if act.who else "") + (f": {act.reason}" if act.reason else "")
