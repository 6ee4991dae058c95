"""Tells the figures of a snapshot at intervals: in the log, and by OTLP.

Every process that runs for long offers to, and for each interval one is elected. So the figures go
on while any worker, scheduler or web process lives, and are told once.
"""

from __future__ import annotations

import random
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import redis

from callbacks.batcher.shards import Shards
from callbacks.batcher.store import Batcher
from callbacks.log import log
from callbacks.monitor.health import WELL
from callbacks.native import has_greenlets
from callbacks.units import ms

if TYPE_CHECKING:
    from callbacks.monitor.snapshot import Snapshot

#: Shorter than the interval by so much is a turn, as the processes come at it at different times.
_SLACK: Final = 0.1
#: At first, so that processes that start together do not come together.
_SPREAD_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Outlet:
    """Where figures are told, and how often. `name`: what the processes take turns at."""

    name: str
    every_s: float
    tell: Callable[[Snapshot], None]


def report_once(batcher: Batcher | Shards, outlets: Sequence[Outlet]) -> list[str]:
    """Tell the figures wherever it is this process's turn; returns where.

    An outlet that fails does not keep the others from their turn; the first error is raised then.
    """
    due = [
        outlet for outlet in outlets if batcher.turn(outlet.name, ms(outlet.every_s * (1 - _SLACK)))
    ]
    if not due:
        return []
    from callbacks.monitor.snapshot import take  # noqa: PLC0415 - keeps pydantic out of the import

    shown, first = take(batcher), None
    for outlet in due:
        try:
            outlet.tell(shown)
        except Exception as error:  # noqa: BLE001 - raised below, after the others' turn
            first = first or error
    if first is not None:
        raise first
    return [outlet.name for outlet in due]


class Reporter:
    """A thread that reports, from `start` to `stop`; may be started again."""

    def __init__(
        self, batcher: Callable[[], Batcher | Shards], outlets: Callable[[], Sequence[Outlet]]
    ) -> None:
        self._batcher, self._outlets = batcher, outlets
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start, if there is anything to be told, and unless it runs already."""
        if self._thread is not None and self._thread.is_alive():
            return
        outlets = self._outlets()
        if not outlets:
            return
        self._stop.clear()
        self._thread = threading.Thread(
            target=self._run, args=(outlets,), name="callbacks-reporter", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop; what is being told may still be."""
        self._stop.set()

    def _run(self, outlets: Sequence[Outlet]) -> None:
        if not has_greenlets():  # periodiq waits for its alarm in the main thread
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        interval_s = min(outlet.every_s for outlet in outlets)
        self._stop.wait(random.uniform(0, min(_SPREAD_S, interval_s)))  # noqa: S311 - no secret
        while not self._stop.is_set():
            try:
                report_once(self._batcher(), outlets)
            except redis.RedisError as error:  # others complain
                log.debug("figures_untold", error=str(error))
            except Exception as error:  # noqa: BLE001 - the next ones may be told
                log.warning("figures_untold", error=f"{type(error).__name__}: {error}")
            self._stop.wait(interval_s)


def log_figures(shown: Snapshot) -> None:
    """Log the figures as one line, for whoever has no metrics; an alarm's is a warning."""
    o, rate, holds, memory = (
        shown.overview,
        shown.overview.per_minute,
        shown.survey.holds,
        shown.memory,
    )
    write = log.info if shown.health.word in WELL else log.warning
    write(
        "figures",
        health=shown.health.word,
        reason=shown.health.reason or None,
        queued=o.queued,
        ready=shown.survey.ready,
        processing=o.processing,
        in_flight=o.in_flight,
        dead=o.dead,
        dead_last_hour=o.dead_last_hour,
        oldest_ready_s=_rounded(shown.oldest_ready_s),
        oldest_held_s=_rounded(shown.oldest_held_s),
        accepted_per_minute=rate.get("accepted", 0),
        sent_per_minute=rate.get("sent", 0),
        retried_per_minute=rate.get("retried", 0) + rate.get("throttled", 0),
        dead_per_minute=rate.get("dead", 0),
        refused_per_minute=rate.get("refused", 0),
        in_trouble=len(shown.trouble),
        breakers=holds.get("breaker", 0),
        parked=holds.get("park", 0),
        paused=holds.get("paused", 0),
        workers=len(shown.workers),
        places=sum(worker.places for worker in shown.workers),
        busy=sum(worker.busy for worker in shown.workers),
        send_interval_s=round(shown.send_interval_s, 4),
        redis_mb=memory and round(memory.used / 1_000_000, 1),
        redis_limit_mb=(memory and memory.limit and round(memory.limit / 1_000_000, 1)) or None,
        sent=o.totals["sent"],
        accepted=o.totals["accepted"],
    )


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)
