"""How the whole is doing, in one word and one reason: a pure decision over one look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from callbacks.books import Overview
from callbacks.model import Look
from callbacks.settings import Settings, ms
from callbacks.text import age

#: The words, the best first.
WORDS: Final = ("ok", "paused", "behind", "no worker", "unbalanced")
#: Nobody claimed, or no process was seen, for so long although there is work: none works.
ABSENT_MS: Final = 60_000


@dataclass(frozen=True, slots=True)
class Health:
    """One of `WORDS`, and why."""

    word: str
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.word}: {self.reason}" if self.reason else self.word


def health(
    overview: Overview, look: Look, *, last_seen_ms: int | None, settings: Settings
) -> Health:
    """Judge; the worst is named. `last_seen_ms`: when a Dramatiq process was seen last."""
    now_ms = overview.now_ms
    if overview.balance:
        return Health("unbalanced", f"books do not balance by {overview.balance}; see audit")
    if overview.paused_since_ms is not None:
        return Health("paused", f"for {age((now_ms - overview.paused_since_ms) / 1000)}")
    absent = _absent(overview, look, last_seen_ms)
    if absent:
        return Health("no worker", absent)
    waited_ms = now_ms - look.oldest_due_ms if look.oldest_due_ms is not None else 0
    if waited_ms > ms(settings.max_delay + settings.drain_target):
        return Health("behind", f"oldest waits {age(waited_ms / 1000)}")
    return Health("ok")


def _absent(overview: Overview, look: Look, last_seen_ms: int | None) -> str:
    """Say why it looks as if no worker ran, where there is work for one."""
    now_ms = overview.now_ms
    if look.oldest_due_ms is not None:
        idle_ms = now_ms - max(look.oldest_due_ms, overview.last_batch_ms or 0)
        if idle_ms > ABSENT_MS:
            return f"nothing was claimed for {age(idle_ms / 1000)} although callbacks are ready"
    if overview.processing and now_ms - (last_seen_ms or 0) > ABSENT_MS:
        return "callbacks are being processed and no process was seen for a minute"
    return ""
