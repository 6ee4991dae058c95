"""Overall health, as one word and a reason: a pure decision.

`status`, the status page, `/healthz`, the metrics and `doctor` all use it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from callbacks.batcher.inspector import Overview
from callbacks.model import Look, Memory
from callbacks.policy.room import is_full
from callbacks.settings import Settings
from callbacks.text import age, many
from callbacks.units import ms

#: All words, best first.
WORDS: Final = ("ok", "paused", "behind", "full", "no worker", "unbalanced")
#: If there is work but no tick, or no claim, for this long, no worker is working.
ABSENT_MS: Final = 60_000
#: Ticks that may be missed: one may be late, and the next one may fail.
_TICKS: Final = 3


@dataclass(frozen=True, slots=True)
class Health:
    """One of `WORDS`, and why."""

    word: str
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.word}: {self.reason}" if self.reason else self.word


def health(overview: Overview, look: Look, memory: Memory | None, *, settings: Settings) -> Health:
    """Return the worst condition found. `memory`: None if this user may not read it."""
    now_ms = overview.now_ms
    if overview.balance:
        return Health("unbalanced", f"books do not balance by {overview.balance}; see audit")
    absent = no_worker(overview, settings)
    if absent:
        return Health("no worker", absent)
    refused = _no_room(overview, memory, settings)
    if refused:
        return Health("full", f"{refused}: enqueue raises QueueFull")
    if overview.paused_since_ms is not None:
        return Health("paused", f"for {age((now_ms - overview.paused_since_ms) / 1000)}")
    return _of_backlog(overview, look, settings)


def _no_room(overview: Overview, memory: Memory | None, settings: Settings) -> str:
    """Why there is no room for another callback; empty if there is."""
    if memory and is_full(memory.used, memory.limit):
        return f"Redis uses {memory.used / memory.limit:.0%} of maxmemory"
    if 0 < settings.max_queued <= overview.queued:
        return f"{overview.queued:,} queued, CALLBACKS_MAX_QUEUED is {settings.max_queued:,}"
    return ""


def _of_backlog(overview: Overview, look: Look, settings: Settings) -> Health:
    """Judge by how long callbacks that are ready have not been claimed."""
    if look.oldest_due_ms is None:
        return Health("ok")
    on_purpose_ms = ms(settings.max_delay) + ms(settings.min_interval)
    waited_ms = overview.now_ms - look.oldest_due_ms
    idle_ms = min(waited_ms, overview.now_ms - (overview.last_batch_ms or 0))
    if idle_ms > ABSENT_MS + on_purpose_ms:
        idle = age(idle_ms / 1000)
        return Health("no worker", f"none claims: callbacks are ready, no batch for {idle}")
    if waited_ms > ms(settings.drain_target) + on_purpose_ms:
        return Health("behind", f"oldest waits {age(waited_ms / 1000)}")
    return Health("ok")


def no_worker(overview: Overview, settings: Settings) -> str:
    """Since when no worker is alive although callbacks are not sent; empty if all is well.

    All unsent callbacks count, including those held by a pause, a breaker or a delay. If no
    worker has ever ticked, the time counts from when the first callback was due.
    """
    unsent = overview.queued + overview.processing
    starts = (overview.ticked_ms, overview.oldest_due_ms, overview.last_batch_ms)
    since_ms = next((start for start in starts if start is not None), overview.now_ms)
    gone_ms = overview.now_ms - since_ms
    if not unsent or gone_ms <= max(ABSENT_MS, _TICKS * ms(settings.check_interval)):
        return ""
    seen = "none was ever seen" if overview.ticked_ms is None else "the last was seen"
    ago = "" if overview.ticked_ms is None else f" {age(gone_ms / 1000)} ago"
    return f"{seen}{ago}; {many(unsent, 'callback')} not sent yet"
