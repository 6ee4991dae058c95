"""A snapshot of sizes, totals and health: what `status`, the status page and the metrics show."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from callbacks.batcher.inspector import (
    Attempts,
    Inspector,
    Overview,
    Survey,
    Worker,
    attempts,
    overview,
    survey,
    workers,
)
from callbacks.batcher.memory import read_memory
from callbacks.batcher.shards import Shards
from callbacks.batcher.store import Batcher
from callbacks.model import Memory
from callbacks.monitor.health import Health, health
from callbacks.monitor.trouble import Trouble, worst
from callbacks.settings import Settings
from callbacks.text import age, counted, distance, many, moment

SEEN_MS: Final = 10_000
#: What may hold a destination, and how that is shown.
HOLDS: Final = {
    "paused": "paused",
    "breaker": "with an open breaker",
    "park": "parked",
    "secret": "without a secret",
}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything at one instant. `producers`: other processes that sent a message in `SEEN_MS`.

    `trouble`: the destinations in trouble, worst first, at most `MOST_TROUBLED`.
    """

    overview: Overview
    health: Health
    survey: Survey
    workers: Sequence[Worker]
    producers: int
    memory: Memory | None
    attempts: Attempts
    settings: Settings
    trouble: tuple[Trouble, ...] = ()

    @property
    def oldest_s(self) -> float | None:
        """How long the oldest due callback has been waiting, in seconds."""
        return self._age_s(self.overview.oldest_due_ms)

    @property
    def oldest_ready_s(self) -> float | None:
        """How long the oldest callback has been waiting that is due and not held."""
        return self._age_s(self.survey.ready_since_ms)

    @property
    def oldest_held_s(self) -> float | None:
        """How long the oldest callback has been due that a breaker, park, pause or secret holds."""
        return self._age_s(self.survey.held_since_ms)

    def _age_s(self, since_ms: int | None) -> float | None:
        return None if since_ms is None else max(0, self.overview.now_ms - since_ms) / 1000

    @property
    def adapts(self) -> bool:
        """Whether the stagger adapts."""
        return self.settings.adaptive and self.settings.send_interval > 0

    @property
    def send_interval_s(self) -> float:
        """The current stagger, in seconds."""
        stagger_us = self.overview.stagger_us
        if not self.adapts or stagger_us is None:
            return self.settings.send_interval
        return stagger_us / 1_000_000

    @property
    def send_interval_why(self) -> str:
        """Why the stagger is what it is."""
        return (self.overview.stagger_why or "base") if self.adapts else "fixed"

    def line(self) -> str:
        """The snapshot as one line for a log."""
        o, rate = self.overview, self.overview.per_minute
        ready, held = map(_short, (self.oldest_ready_s, self.oldest_held_s))
        return (
            f"{moment(o.now_ms / 1000)} queued={o.queued} processing={o.processing} "
            f"dead={o.dead} oldest_ready={ready} oldest_held={held} sent={o.totals['sent']} "
            f"sent_per_minute={rate.get('sent', 0)} retried_per_minute={rate.get('retried', 0)} "
            f"in_trouble={len(self.trouble)} "
            f"health={json.dumps(str(self.health))}"
        )


def take(batcher: Batcher | Shards) -> Snapshot:
    """Read everything that `status`, the page and the metrics show."""
    settings, client = batcher.settings, batcher.scripts.client
    scripts = batcher.scripts
    books, look, held = overview(scripts), batcher.look(), survey(scripts)
    memory, running = read_memory(scripts), workers(scripts, books.now_ms)
    heartbeats = f"{settings.message_namespace}:__heartbeats__"
    seen: Any = client.zrange(heartbeats, books.now_ms - SEEN_MS, "+inf", byscore=True)
    others = {id.decode() for id in seen} - {worker.broker for worker in running}
    trouble = tuple(worst(Inspector(scripts).troubled(), books.now_ms))
    return Snapshot(
        overview=books,
        health=health(books, look, held, memory, in_trouble=len(trouble), settings=settings),
        survey=held,
        workers=running,
        producers=len(others),
        memory=memory,
        attempts=attempts(scripts),
        settings=settings,
        trouble=trouble,
    )


def _short(age_s: float | None) -> str:
    return "-" if age_s is None else f"{age_s:.1f}s"


def facts(shown: Snapshot) -> list[tuple[str, str]]:
    """What is shown besides health and totals, as (name, text)."""
    o, now_s = shown.overview, shown.overview.now_ms / 1000
    held = shown.survey.holds
    places = f" at {many(o.destinations_waiting, 'destination')}" if o.queued else ""
    last = "none yet" if o.last_batch_ms is None else distance(o.last_batch_ms / 1000, now_s)
    armed = o.next_batch_ms is not None and o.next_batch_ms > o.now_ms
    upcoming = f", next {distance((o.next_batch_ms or 0) / 1000, now_s)}" if armed else ""
    told = [
        ("queued", f"{o.queued:,}{places}"),
        ("ready", _waiting(shown.survey.ready, shown.oldest_ready_s)),
        ("held", f"{_waiting(shown.survey.held, shown.oldest_held_s)}; {_held(held)}"),
        ("processing", f"{o.processing:,}, {o.in_flight:,} in flight"),
        ("dead", f"{o.dead:,}, {o.dead_last_hour:,} within the hour"),
        ("records", f"{o.sent_records:,} of sent or cancelled callbacks"),
        ("last batch", f"{last}{upcoming}"),
        ("send interval", f"{shown.send_interval_s:.4g} s ({shown.send_interval_why})"),
        ("lock", f"held by {o.lock}" if o.lock else "free"),
        ("scheduler", _scheduler(o)),
        ("producers", f"{shown.producers:,} sent a message within {SEEN_MS // 1000} s"),
    ]
    if shown.trouble:
        told.append(("in trouble", many(len(shown.trouble), "destination")))
    if o.data_lost_ms is not None:
        told.append(("Redis", f"lost its data, noticed {distance(o.data_lost_ms / 1000, now_s)}"))
    if o.held:
        until = distance((o.held_until_ms or 0) / 1000, now_s)
        jump = age((o.jump_ms or 0) / 1000)
        told.append(
            ("expiry", f"suspended until {until}: Redis' clock jumped ahead by {jump}; see doctor")
        )
    return told


def _waiting(count: int, oldest_s: float | None) -> str:
    return f"{count:,}{_oldest(oldest_s)}"


def _oldest(oldest_s: float | None) -> str:
    return "" if oldest_s is None else f", oldest waits {age(oldest_s)}"


def _held(holds: Mapping[str, int]) -> str:
    """Destinations by what holds them."""
    told = [f"{holds[why]:,} {name}" for why, name in HOLDS.items() if holds.get(why)]
    return f"destinations: {', '.join(told)}" if told else "no destination"


def _scheduler(o: Overview) -> str:
    if o.scheduled_ms is None:
        return "never seen"
    return f"seen {distance(o.scheduled_ms / 1000, o.now_ms / 1000)}"


def summary(running: Sequence[Worker]) -> str:
    """How many worker processes and places there are, in one line."""
    if not running:
        return "none running (dramatiq callbacks)"
    processes = counted(len(running), "process", "processes")
    places, busy = sum(w.places for w in running), sum(w.busy for w in running)
    return f"{processes}, {places:,} threads or greenlets, {busy:,} busy"


def worker_rows(running: Sequence[Worker], now_ms: int) -> list[tuple[str, str, str, str, str]]:
    """Each worker process: its host, pid, version, places and how many are busy, and its age."""
    return [
        (
            worker.host or "unknown",
            str(worker.pid or "-"),
            worker.version or "-",
            f"{worker.busy:,} of {worker.places:,} {worker.kind or 'places'} busy",
            "-" if worker.since_ms is None else age(max(0, now_ms - worker.since_ms) / 1000),
        )
        for worker in running
    ]
