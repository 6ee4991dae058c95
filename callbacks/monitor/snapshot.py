"""A snapshot of sizes, totals and health: what `status`, the status page and the metrics show."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from callbacks.batcher.inspector import TOTALS, Inspector, Overview, overview
from callbacks.batcher.memory import read_memory
from callbacks.batcher.store import Batcher
from callbacks.monitor.health import Health, health
from callbacks.monitor.trouble import WORST, Trouble, worst
from callbacks.settings import Settings
from callbacks.text import age, distance, many, moment

SEEN_MS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything at one instant. `processes`: how many Dramatiq has seen within `SEEN_MS`.

    `trouble`: the destinations in trouble, worst first, at most `MOST_TROUBLED`.
    """

    overview: Overview
    health: Health
    processes: int
    settings: Settings
    trouble: tuple[Trouble, ...] = ()

    @property
    def oldest_s(self) -> float | None:
        """How long the oldest due callback has been waiting, in seconds."""
        due_ms = self.overview.oldest_due_ms
        return None if due_ms is None else (self.overview.now_ms - due_ms) / 1000

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

    def document(self) -> dict[str, Any]:
        """The snapshot for programs: ages and intervals in seconds."""
        o = self.overview
        last, upcoming = o.last_batch_ms, o.next_batch_ms
        return {
            "health": self.health.word,
            "health_reason": self.health.reason,
            "queued": o.queued,
            "processing": o.processing,
            "dead": o.dead,
            "sent_records": o.sent_records,
            "paused": o.paused_since_ms is not None,
            "paused_since": _seconds(o.paused_since_ms),
            "paused_by": o.paused_by and o.paused_by.who,
            "paused_reason": o.paused_by and o.paused_by.reason,
            "oldest_queued_age": self.oldest_s,
            "destinations_waiting": o.destinations_waiting,
            "send_interval": self.send_interval_s,
            "send_interval_reason": self.send_interval_why,
            "last_batch_age": None if last is None else (o.now_ms - last) / 1000,
            "next_batch_in": None if upcoming is None else max(0, upcoming - o.now_ms) / 1000,
            "lock": o.lock or None,
            "data_since": _seconds(o.data_since_ms),
            "data_lost_at": _seconds(o.data_lost_ms),
            "expiry_held_until": _seconds(o.held_until_ms) if o.held else None,
            "processes": self.processes,
            "in_trouble": len(self.trouble),
            "trouble": [
                {"destination": one.destination, "reason": one.reason, "todo": one.todo}
                for one in self.trouble[:WORST]
            ],
            "balance": o.balance,
            "totals": o.totals,
            "per_minute": {name: o.per_minute.get(name, 0) for name in TOTALS},
        }

    def line(self) -> str:
        """The snapshot as one line for a log."""
        o, rate = self.overview, self.overview.per_minute
        oldest = "-" if self.oldest_s is None else f"{self.oldest_s:.1f}s"
        return (
            f"{moment(o.now_ms / 1000)} queued={o.queued} processing={o.processing} "
            f"dead={o.dead} oldest={oldest} sent={o.totals['sent']} "
            f"sent_per_minute={rate.get('sent', 0)} retried_per_minute={rate.get('retried', 0)} "
            f"in_trouble={len(self.trouble)} "
            f"health={json.dumps(str(self.health))}"
        )


def take(batcher: Batcher) -> Snapshot:
    """Read everything that `status`, the page and the metrics show."""
    settings, client = batcher.settings, batcher.scripts.client
    books = overview(batcher.scripts)
    look = batcher.look()
    memory = read_memory(batcher.scripts)
    heartbeats = f"{settings.namespace}:__heartbeats__"
    processes: Any = client.zcount(heartbeats, books.now_ms - SEEN_MS, "+inf")
    return Snapshot(
        overview=books,
        health=health(books, look, memory, settings=settings),
        processes=int(processes),
        settings=settings,
        trouble=tuple(worst(Inspector(batcher.scripts).troubled(), books.now_ms)),
    )


def facts(shown: Snapshot) -> list[tuple[str, str]]:
    """What is shown besides health and totals, as (name, text)."""
    o, now_s = shown.overview, shown.overview.now_ms / 1000
    waits = f", oldest waits {age(shown.oldest_s)}" if shown.oldest_s is not None else ""
    places = f" at {many(o.destinations_waiting, 'destination')}" if o.queued else ""
    last = "none yet" if o.last_batch_ms is None else distance(o.last_batch_ms / 1000, now_s)
    armed = o.next_batch_ms is not None and o.next_batch_ms > o.now_ms
    upcoming = f", next {distance((o.next_batch_ms or 0) / 1000, now_s)}" if armed else ""
    told = [
        ("queued", f"{o.queued:,}{places}{waits}"),
        ("processing", f"{o.processing:,}"),
        ("dead", f"{o.dead:,}"),
        ("records", f"{o.sent_records:,} of sent or cancelled callbacks"),
        ("last batch", f"{last}{upcoming}"),
        ("send interval", f"{shown.send_interval_s:.4g} s ({shown.send_interval_why})"),
        ("lock", f"held by {o.lock}" if o.lock else "free"),
        (
            "processes",
            f"{shown.processes} of Dramatiq seen within {SEEN_MS // 1000} s, workers or producers",
        ),
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


def _seconds(ms: int | None) -> float | None:
    return None if ms is None else ms / 1000
