"""The worker as deployed, by the clock: at rest, its gaps, and its haste."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Final

import redis

from scripts.benchmark.contenders import Contender, Place, ours, periodiq
from scripts.benchmark.drain import new_server, usage
from scripts.benchmark.options import Options, Say
from scripts.benchmark.processes import Workers
from scripts.benchmark.receiver import Receiver
from scripts.benchmark.table import Row, figure, percentile

_WARM: Final = 5
IDLE: Final = "idle, everything at its default, with the scheduler"
GAPS: Final = "gaps at the receiver, beside the stagger that was set; 5th, 50th, 95th percentile"
LATENCY: Final = "from enqueue to receipt, CALLBACKS_MAX_DELAY=0, nothing else to do"


class Timing:
    """All of it on our own worker; keeps what the charts need."""

    def __init__(self, options: Options, receiver: Receiver, say: Say) -> None:
        self._options, self._receiver, self._say = options, receiver, say
        self.gaps_ms: dict[int, list[float]] = {}

    def _ours(self, settings: Mapping[str, object], way: str = "bulk") -> Contender:
        return ours(self._options.processes, self._options.threads, settings, way=way)

    @contextmanager
    def _running(
        self, contender: Contender, *more: tuple[str, ...]
    ) -> Iterator[tuple[Place, Workers, redis.Redis]]:
        """Workers that have sent something already, on a Redis of their own."""
        server = new_server().start()
        try:
            with tempfile.TemporaryDirectory(prefix="callbacks-bench-") as folder:
                place = Place(server.url, self._receiver.url, Path(folder))
                workers = Workers(contender.environment(place), place.folder / "workers.log")
                with workers, server.client() as client:
                    self._receiver.reset()
                    for command in (*contender.workers, *more):
                        workers.start(command)
                    self._ours(contender.settings or {}).enqueue(place, _WARM)
                    self._receiver.await_count(_WARM, within_s=60)
                    yield place, workers, client
        finally:
            server.stop()

    def idle(self) -> list[Row]:
        """What all processes and Redis do while there is nothing to do."""
        span_s = self._options.at_most(5, 30)
        with self._running(self._ours({}), periodiq()) as (_, workers, client):
            time.sleep(self._options.at_most(2, 6))
            started, before = time.monotonic(), usage(client, workers)
            time.sleep(span_s)
            took_s, after = time.monotonic() - started, usage(client, workers)
        cpu = (after.worker_cpu_s - before.worker_cpu_s) / took_s
        server = (after.redis_cpu_s - before.redis_cpu_s) / took_s
        a_minute = 60 * (after.commands - before.commands) / took_s
        shape = f"{self._options.processes} x {self._options.threads} threads"
        return [
            Row(IDLE, f"CPU of the worker ({shape}) and the scheduler", f"{cpu:.1%} of a core"),
            Row(IDLE, "CPU of Redis", f"{server:.1%} of a core"),
            Row(IDLE, "Redis commands, those in scripts too", figure(a_minute, "a minute")),
        ]

    def gaps(self) -> list[Row]:
        """The pace of the stagger alone: one destination, without an interval of its own."""
        counts = {200: (10, 75), 50: (30, 200), 20: (60, 400)}
        for interval_ms, (quick, full) in counts.items():
            settings = {
                "CALLBACKS_ADAPTIVE": "false",
                "CALLBACKS_SEND_INTERVAL": interval_ms / 1_000,
                "CALLBACKS_DESTINATION_INTERVAL": 0,
            }
            count = self._options.at_most(quick, full)
            contender = self._ours(settings)
            with self._running(contender) as (place, _, _):
                self._receiver.reset()
                contender.enqueue(place, count)
                self._receiver.await_count(count, within_s=30 + count * interval_ms / 200)
                times = self._receiver.times()
            self.gaps_ms[interval_ms] = [(y - x) * 1_000 for x, y in pairwise(times)]
        return [self._gap(interval_ms, gaps) for interval_ms, gaps in self.gaps_ms.items()]

    def _gap(self, interval_ms: int, gaps: list[float]) -> Row:
        low, middle, high = (percentile(gaps, share) for share in (0.05, 0.5, 0.95))
        what = f"{interval_ms} ms, {len(gaps)} gaps"
        told = f"{low:.1f}  {middle:.1f}  {high:.1f} ms"
        self._say(f"{what}: {told}")
        return Row(GAPS, what, told, f"{interval_ms} ms", middle / interval_ms)

    def latency(self) -> list[Row]:
        """How long one callback takes on an idle system."""
        count = self._options.at_most(5, 50)
        contender = self._ours({"CALLBACKS_MAX_DELAY": 0}, "spread")
        with self._running(contender) as (place, _, _):
            time.sleep(2)
            self._receiver.reset()
            moments = contender.enqueue(place, count)["moments"]
            self._receiver.await_count(count, within_s=30)
            times = self._receiver.times()
        # They are far apart, so the n-th receipt is that of the n-th enqueue.
        took = [(came - put) * 1_000 for put, came in zip(moments, times, strict=True)]
        middle, high = (figure(percentile(took, share), "ms") for share in (0.5, 0.95))
        return [
            Row(LATENCY, f"median of {count}", middle),
            Row(LATENCY, "95th percentile", high),
        ]
