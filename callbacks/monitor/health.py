"""Overall health, as one word, a reason and what to do: a pure decision.

`status`, the status page, `/healthz`, the metrics and `doctor` all use it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from callbacks.batcher.errors import ShardsAway
from callbacks.batcher.inspector import Overview, Survey
from callbacks.model import Look, Memory
from callbacks.monitor.checks import runbook
from callbacks.policy.room import is_full
from callbacks.text import age, many
from callbacks.units import ms

if TYPE_CHECKING:
    from callbacks.settings import Settings

#: All words, best first.
WORDS: Final = (
    "ok",
    "scheduler away",
    "paused",
    "behind",
    "queue full",
    "redis full",
    "no worker",
    "unbalanced",
    "no redis",
)
#: Words with which callbacks are sent and accepted, or are held on purpose.
WELL: Final = frozenset({"ok", "scheduler away", "paused", "behind"})
#: If there is work but no tick for this long, no worker is alive: each ticks at every check,
#: whatever there is to do. The alert waits a minute more, for deploys.
ABSENT_MS: Final = 20_000
#: If what is ready is not claimed for this long, the workers that are alive do not work.
UNCLAIMED_MS: Final = 60_000
#: For so long health tells that Redis has lost its data.
LOSS_TOLD_MS: Final = 3_600_000
#: The scheduler sends every minute: by then two messages in a row are missing.
SCHEDULER_LATE_MS: Final = 150_000
#: Ticks that may be missed: one may be late, and the next one may fail.
_TICKS: Final = 3

START_WORKERS: Final = (
    "run dramatiq callbacks --processes 2 --threads 64 --worker-shutdown-timeout 11000"
)
SEEK_NAMESPACE: Final = (
    "if something should have been, callbacks doctor lists the other namespaces of this Redis"
)
RESTART_WORKERS: Final = "look for tick_failed in the log of the workers, and restart them"
START_SCHEDULER: Final = "run periodiq callbacks"
_LOOK_AT_DESTINATIONS: Final = "callbacks destinations shows whether one is slow or all"
_TODO: Final = {
    "ok": "callbacks destinations and callbacks dead show --since 1h tell why",
    "scheduler away": START_SCHEDULER,
    "paused": "callbacks resume",
    "behind": f"{_LOOK_AT_DESTINATIONS}; if all, start more workers",
    "queue full": f"{_LOOK_AT_DESTINATIONS}; then start more workers, or raise"
    " CALLBACKS_MAX_QUEUED",
    "redis full": "raise maxmemory; deliveries go on meanwhile, and free memory",
    "no worker": START_WORKERS,
    "unbalanced": "callbacks audit lists what is wrong; see whether Redis lost data (callbacks"
    " doctor)",
    "no redis": "start Redis, or correct REDIS_URL; callbacks doctor says more",
}


@dataclass(frozen=True, slots=True)
class Health:
    """One of `WORDS`, why, and what to do; both are empty if all is well."""

    word: str
    reason: str = ""
    todo: str = ""

    @property
    def runbook(self) -> str:
        """The section of the runbook that says more, relative to this repository."""
        return runbook(f"health: {self.word}")

    def __str__(self) -> str:
        return f"{self.word}: {self.reason}" if self.reason else self.word


NO_REDIS: Final = Health(
    "no redis", "it cannot be read; the log of this process says why", _TODO["no redis"]
)


def no_redis(error: Exception | None) -> Health:
    """The health while Redis cannot be read, or some of its shards."""
    if not isinstance(error, ShardsAway):
        return NO_REDIS
    reason = f"{error.which} cannot be read; the log of this process says why"
    todo = "start their primary again; callbacks doctor names it; the other shards go on"
    return Health(NO_REDIS.word, reason, todo)


def health(
    overview: Overview,
    look: Look,
    survey: Survey,
    memory: Memory | None,
    *,
    in_trouble: int,
    settings: Settings,
) -> Health:
    """Return the worst condition found, and if that is no alarm, what else needs a look.

    `memory`: None if this user may not read it. `in_trouble`: destinations.
    """
    found = _worst(overview, look, survey, memory, settings)
    beside = notes(overview, in_trouble) if found.word in WELL else ""
    reason = "; ".join(filter(None, (found.reason, beside)))
    return Health(found.word, reason, found.todo or (_TODO[found.word] if reason else ""))


def _worst(
    overview: Overview, look: Look, survey: Survey, memory: Memory | None, settings: Settings
) -> Health:
    conditions = (
        Health("unbalanced", _unbalanced(overview)),
        Health("no worker", no_worker(overview, settings)),
        Health("no worker", _unclaimed(overview, look, settings), RESTART_WORKERS),
        Health("redis full", _no_memory(overview, memory)),
        Health("queue full", _no_room(overview, settings)),
        Health("paused", _paused(overview)),
        Health("behind", _behind(overview, survey, settings)),
        Health("scheduler away", scheduler_late(overview)),
        Health("ok", _unused(overview, settings), SEEK_NAMESPACE),
    )
    return next((found for found in conditions if found.reason), Health("ok"))


def _unbalanced(overview: Overview) -> str:
    return f"the totals do not balance by {overview.balance}" if overview.balance else ""


def _unused(overview: Overview, settings: Settings) -> str:
    """That this namespace never had a callback, as a misspelt one; empty if it had."""
    if any(overview.totals.values()):
        return ""
    return f"nothing was ever enqueued in the namespace {settings.namespace}"


def _paused(overview: Overview) -> str:
    since_ms = overview.paused_since_ms
    return "" if since_ms is None else f"for {age((overview.now_ms - since_ms) / 1000)}"


def notes(overview: Overview, in_trouble: int) -> str:
    """What needs a look, but nobody at night."""
    died = overview.dead_last_hour
    lost_ms = overview.now_ms - (overview.data_lost_ms or 0)
    told = [
        f"Redis lost its data {age(lost_ms / 1000)} ago" if lost_ms < LOSS_TOLD_MS else "",
        f"{many(in_trouble, 'destination')} in trouble" if in_trouble else "",
        f"{died:,} died within the hour" if died else "",
    ]
    return ", ".join(filter(None, told))


def _no_memory(overview: Overview, memory: Memory | None) -> str:
    """Why Redis has no memory for another callback; empty if it has."""
    if memory and is_full(memory.used, memory.limit):
        return f"{memory.used / memory.limit:.0%} of maxmemory is used: enqueue raises QueueFull"
    if overview.refusing:
        return "at the last tick, maxmemory was nearly used up: enqueue raises QueueFull"
    return ""


def _no_room(overview: Overview, settings: Settings) -> str:
    """Why the queue takes no other callback; empty if it does."""
    if not 0 < settings.max_queued <= overview.queued:
        return ""
    limit = f"CALLBACKS_MAX_QUEUED is {settings.max_queued:,}"
    return f"{overview.queued:,} queued, {limit}: enqueue raises QueueFull"


def _patience_ms(settings: Settings) -> int:
    """How long a callback may wait on purpose."""
    return ms(settings.max_delay) + ms(settings.min_interval)


def _unclaimed(overview: Overview, look: Look, settings: Settings) -> str:
    """For how long nothing that is ready has been claimed; empty if that is not long."""
    if look.oldest_due_ms is None or overview.paused_since_ms is not None:
        return ""
    waited_ms = overview.now_ms - look.oldest_due_ms
    idle_ms = min(waited_ms, overview.now_ms - (overview.last_batch_ms or 0))
    if idle_ms <= UNCLAIMED_MS + _patience_ms(settings):
        return ""
    return f"none claims: callbacks are ready, no batch for {age(idle_ms / 1000)}"


def _behind(overview: Overview, survey: Survey, settings: Settings) -> str:
    """How long the oldest callback has waited that is not held; empty if that is not long."""
    if survey.ready_since_ms is None:
        return ""
    waited_ms = overview.now_ms - survey.ready_since_ms
    if waited_ms <= ms(settings.drain_target) + _patience_ms(settings):
        return ""
    return f"the oldest of {survey.ready:,} ready waits {age(waited_ms / 1000)}"


def scheduler_late(overview: Overview) -> str:
    """Since when the scheduler has been away; empty if it is not, or if there is no data yet.

    If it has never been seen, the time counts from when the first worker was.
    """
    since_ms = overview.scheduled_ms or overview.data_since_ms
    if since_ms is None or overview.now_ms - since_ms <= SCHEDULER_LATE_MS:
        return ""
    ago = age((overview.now_ms - since_ms) / 1000)
    seen = f"last seen {ago} ago" if overview.scheduled_ms else f"never seen, for {ago}"
    return f"{seen}; this delays nothing, because each worker checks by itself"


def no_worker(overview: Overview, settings: Settings) -> str:
    """Since when no worker is alive although callbacks are not sent; empty if all is well.

    All unsent callbacks count, including those held by a pause, a breaker or a delay. One that was
    never seen is missed when the first of them should have been in a batch, one that was after
    `ABSENT_MS` or some checks.
    """
    unsent = overview.queued + overview.processing
    starts = (overview.ticked_ms, overview.oldest_due_ms, overview.last_batch_ms)
    since_ms = next((start for start in starts if start is not None), overview.now_ms)
    gone_ms, known = overview.now_ms - since_ms, overview.ticked_ms is not None
    ticks_ms = _TICKS * ms(settings.check_interval)
    patience_ms = max(ABSENT_MS, ticks_ms) if known else _patience_ms(settings)
    if not unsent or gone_ms <= patience_ms:
        return ""
    seen = f"the last was seen {age(gone_ms / 1000)} ago" if known else "none was ever seen"
    return f"{seen}; {many(unsent, 'callback')} not sent yet"
