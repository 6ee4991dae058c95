"""`callbacks status`: everything at one instant, once or each second."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from time import sleep
from typing import Any, Final

import click
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from callbacks.books import TOTALS, Overview, overview
from callbacks.cli.command import console, json_option, parts, print_json, table
from callbacks.cli.health import Health, health
from callbacks.cli.text import age, distance, many, moment
from callbacks.runtime import Runtime
from callbacks.settings import Settings

_WATCH_S: Final = 1.0
_SEEN_MS: Final = 10_000
_STYLES: Final = {"ok": "green", "paused": "yellow", "behind": "yellow"}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What `status` shows. `processes` were seen by Dramatiq within ten seconds."""

    overview: Overview
    health: Health
    processes: int
    settings: Settings

    @property
    def oldest_s(self) -> float | None:
        """How long the oldest due callback has been waiting, in seconds."""
        due_ms = self.overview.oldest_due_ms
        return None if due_ms is None else (self.overview.now_ms - due_ms) / 1000

    @property
    def adapts(self) -> bool:
        """Whether the stagger moves by itself."""
        return self.settings.adaptive and self.settings.send_interval > 0

    @property
    def send_interval_s(self) -> float:
        """The stagger of now, in seconds."""
        stagger_us = self.overview.stagger_us
        if not self.adapts or stagger_us is None:
            return self.settings.send_interval
        return stagger_us / 1_000_000

    @property
    def send_interval_why(self) -> str:
        """Why it is what it is."""
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
            "oldest_queued_age": self.oldest_s,
            "destinations_waiting": o.destinations_waiting,
            "send_interval": self.send_interval_s,
            "send_interval_reason": self.send_interval_why,
            "last_batch_age": None if last is None else (o.now_ms - last) / 1000,
            "next_batch_in": None if upcoming is None else max(0, upcoming - o.now_ms) / 1000,
            "lock": o.lock or None,
            "data_since": _seconds(o.data_since_ms),
            "data_lost_at": _seconds(o.data_lost_ms),
            "processes": self.processes,
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
            f"health={json.dumps(str(self.health))}"
        )


def snapshot(found: Runtime) -> Snapshot:
    """Read everything that `status` shows."""
    books = overview(found.batcher.scripts)
    look = found.batcher.look()
    heartbeats = f"{found.settings.namespace}:__heartbeats__"
    newest = found.client.zrange(heartbeats, 0, 0, desc=True, withscores=True)
    last_seen_ms = int(newest[0][1]) if newest else None
    return Snapshot(
        overview=books,
        health=health(books, look, last_seen_ms=last_seen_ms, settings=found.settings),
        processes=found.client.zcount(heartbeats, books.now_ms - _SEEN_MS, "+inf"),
        settings=found.settings,
    )


def render(shown: Snapshot) -> Group:
    """The snapshot for people."""
    facts = Table.grid(padding=(0, 2))
    style = _STYLES.get(shown.health.word, "red")
    facts.add_row("health", Text(str(shown.health), style=style))
    for name, fact in _facts(shown):
        facts.add_row(name, fact)
    counts = table("", "total", "last minute", right=("total", "last minute"))
    for name in TOTALS:
        o = shown.overview
        counts.add_row(name, f"{o.totals[name]:,}", f"{o.per_minute.get(name, 0):,}")
    return Group(facts, Text(), counts)


def _facts(shown: Snapshot) -> list[tuple[str, str]]:
    o, now_s = shown.overview, shown.overview.now_ms / 1000
    waits = f", oldest waits {age(shown.oldest_s)}" if shown.oldest_s is not None else ""
    places = f" at {many(o.destinations_waiting, 'destination')}" if o.queued else ""
    last = "none yet" if o.last_batch_ms is None else distance(o.last_batch_ms / 1000, now_s)
    armed = o.next_batch_ms is not None and o.next_batch_ms > o.now_ms
    upcoming = f", next {distance((o.next_batch_ms or 0) / 1000, now_s)}" if armed else ""
    facts = [
        ("queued", f"{o.queued:,}{places}{waits}"),
        ("processing", f"{o.processing:,}"),
        ("dead", f"{o.dead:,}"),
        ("records", f"{o.sent_records:,} sent or cancelled are remembered"),
        ("last batch", f"{last}{upcoming}"),
        ("send interval", f"{shown.send_interval_s:.4g} s ({shown.send_interval_why})"),
        ("lock", f"held by {o.lock}" if o.lock else "free"),
        (
            "processes",
            f"{shown.processes} of Dramatiq seen within {_SEEN_MS // 1000} s, workers or enqueuers",
        ),
    ]
    if o.data_lost_ms is not None:
        facts.append(("Redis", f"lost what it held, seen {distance(o.data_lost_ms / 1000, now_s)}"))
    return facts


def _seconds(ms: int | None) -> float | None:
    return None if ms is None else ms / 1000


@click.command()
@click.option("--watch", is_flag=True, help="Show it anew each second, until interrupted.")
@json_option
def status(watch: bool, as_json: bool) -> None:
    """Show sizes, totals, rates and how the whole is doing.

    Ages and intervals are seconds; rates are those of the last whole minute.
    """
    found = parts()
    if watch:
        _watch(found, as_json)
    elif as_json:
        print_json(snapshot(found).document())
    else:
        console().print(render(snapshot(found)))


def _watch(found: Runtime, as_json: bool) -> None:
    """Refresh a terminal; in a pipe, print a line (with --json: a document a line) each second."""
    screen = console()
    try:
        if as_json:
            _each_second(lambda: click.echo(json.dumps(snapshot(found).document())))
        elif not screen.is_terminal:
            _each_second(lambda: click.echo(snapshot(found).line()))
        else:
            with Live(render(snapshot(found)), console=screen, auto_refresh=False) as live:
                _each_second(lambda: live.update(render(snapshot(found)), refresh=True))
    except KeyboardInterrupt:
        return


def _each_second(show: Callable[[], None]) -> None:
    while True:
        show()
        sleep(_WATCH_S)
