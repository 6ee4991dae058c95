"""The worker as deployed: its cost when idle, the gaps between sends, and its latency."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Final

import redis

from scripts.benchmark.contenders import Contender, Place, ours, periodiq
from scripts.benchmark.drain import usage
from scripts.benchmark.inflight import MANY
from scripts.benchmark.options import Options, Say
from scripts.benchmark.processes import Workers
from scripts.benchmark.receiver import ReceiverProcess
from scripts.benchmark.table import Row, absolute, compared, percentile

_WARM: Final = 5
IDLE: Final = "idle, everything at its default, with the scheduler"
#: A worker has the threads that were chosen, or many greenlets.
_KINDS: Final = ("threads", "greenlets")
GAPS: Final = "gaps at the receiver, beside the stagger that was set"
#: The staggers, ms, each with how many are sent in a quick run and else.
_GAPS: Final = {200: (10, 75), 50: (30, 200), 20: (60, 400), 5: (200, 1_200)}
_SHARES: Final = (0.05, 0.5, 0.95)
#: Sent before those that are measured: a worker's first request loads and connects everything.
_FIRST: Final = 3
LATENCY: Final = "from enqueue to receipt, CALLBACKS_MAX_DELAY=0, nothing else to do"


class Timing:
    """Measures our own worker."""

    def __init__(self, options: Options, receiver: ReceiverProcess, say: Say) -> None:
        self._options, self._receiver, self._say = options, receiver, say

    def ours(
        self, settings: Mapping[str, object], way: str = "bulk", kind: str = "threads"
    ) -> Contender:
        """This project as it is measured here."""
        places = MANY if kind == "greenlets" else self._options.threads
        return ours(self._options.processes, places, settings, way=way, kind=kind)

    @contextmanager
    def running(
        self, contender: Contender, *more: tuple[str, ...]
    ) -> Iterator[tuple[Place, Workers, redis.Redis]]:
        """Warmed-up workers with their own Redis."""
        server = self._options.new_server().start()
        try:
            with tempfile.TemporaryDirectory(prefix="callbacks-bench-") as folder:
                place = Place(server.url, self._receiver.url, Path(folder))
                workers = Workers(contender.environment(place), place.folder / "workers.log")
                with workers, server.client() as client:
                    self._receiver.reset()
                    for command in (*contender.workers, *more):
                        workers.start(command)
                    at_once = {**(contender.settings or {}), "CALLBACKS_MAX_DELAY": 0}
                    self.ours(at_once).enqueue(place, _WARM)  # the worker keeps its own settings
                    self._receiver.await_count(_WARM, within_s=60)
                    yield place, workers, client
        finally:
            server.stop()

    def idle(self) -> list[Row]:
        """What all processes and Redis do with nothing to do, for each kind of worker."""
        return [row for kind in _KINDS for row in self._idle(self.ours({}, kind=kind))]

    def _idle(self, contender: Contender) -> list[Row]:
        with self.running(contender, periodiq()) as (_, workers, client):
            time.sleep(self._options.at_most(1, 6))
            spans = [
                self._span(client, workers, self._options.at_most(3, 30))
                for _ in range(self._options.rounds)
            ]
        cpu, server, commands = zip(*spans, strict=True)
        self._say(f"idle: {contender.name}")
        section = f"{IDLE}; {contender.name}"
        return [
            absolute(section, "CPU of the worker and the scheduler", cpu, "% of a core"),
            absolute(section, "CPU of Redis", server, "% of a core"),
            absolute(section, "Redis commands, those in scripts too", commands, "a minute"),
        ]

    @staticmethod
    def _span(client: redis.Redis, workers: Workers, span_s: float) -> tuple[float, float, float]:
        """Over some seconds: our CPU and Redis' in % of a core, and its commands per minute."""
        started, before = time.monotonic(), usage(client, workers)
        time.sleep(span_s)
        took_s, after = time.monotonic() - started, usage(client, workers)

        def a_second(name: str) -> float:
            return float(getattr(after, name) - getattr(before, name)) / took_s

        return (
            100 * a_second("worker_cpu_s"),
            100 * a_second("redis_cpu_s"),
            60 * a_second("commands"),
        )

    def gaps(self) -> list[Row]:
        """The pace of the stagger alone: one destination, without its own interval."""
        counts = {ms: self._options.at_most(*of) for ms, of in _GAPS.items()}
        rounds: dict[int, list[list[float]]] = {ms: [] for ms in counts}
        for _ in range(self._options.rounds):
            for interval_ms, count in counts.items():
                rounds[interval_ms].append(self._gaps(interval_ms, count))
                self._say(f"gaps at {interval_ms} ms")
        return [
            _gap(interval_ms, all, share)
            for interval_ms, all in rounds.items()
            for share in _SHARES
        ]

    def _gaps(self, interval_ms: int, count: int) -> list[float]:
        """The time from one receipt to the next, in ms, for `count` sends."""
        settings = {
            "CALLBACKS_ADAPTIVE": "false",
            "CALLBACKS_SEND_INTERVAL": interval_ms / 1_000,
            "CALLBACKS_DESTINATION_INTERVAL": 0,
            "CALLBACKS_MAX_DELAY": 0.5,  # the wait for the first batch is not measured
        }
        contender = self.ours(settings)
        with self.running(contender) as (place, _, _):
            self._receiver.reset()
            contender.enqueue(place, count)
            self._receiver.await_count(count, within_s=30 + count * interval_ms / 200)
            times = self._receiver.times()
        return [(y - x) * 1_000 for x, y in pairwise(times)]

    def latency(self) -> list[Row]:
        """How long one callback takes on an idle system, beside a bare POST of the same."""
        took: dict[str, list[tuple[list[float], list[float]]]] = {kind: [] for kind in _KINDS}
        for _ in range(self._options.rounds):
            for kind, rounds in took.items():
                rounds.append(self._latency(kind))
                self._say(f"latency, {kind}")
        return [row for kind, rounds in took.items() for row in _latencies(kind, rounds)]

    def _latency(self, kind: str) -> tuple[list[float], list[float]]:
        """The ms that each of ours took, and each bare one."""
        contender = self.ours({"CALLBACKS_MAX_DELAY": 0}, "spread", kind)
        count = self._options.at_most(5, 30)
        with self.running(contender) as (place, _, _):
            time.sleep(self._options.at_most(1, 3))
            self._took_ms(contender, place, _FIRST)
            mine = self._took_ms(contender, place, count)
            bare = self.ours({}, "post")
            self._took_ms(bare, place, _FIRST)
            return mine, self._took_ms(bare, place, count)

    def _took_ms(self, contender: Contender, place: Place, count: int) -> list[float]:
        """How long each took to arrive. They are sent far apart, so they arrive in order."""
        self._receiver.reset()
        moments = contender.enqueue(place, count)["moments"]
        self._receiver.await_count(count, within_s=30)
        times = self._receiver.times()
        return [(came - put) * 1_000 for put, came in zip(moments, times, strict=True)]


def _latencies(kind: str, rounds: Sequence[tuple[list[float], list[float]]]) -> Iterator[Row]:
    """The median and the 95th percentile, once a round."""
    mine, bare = zip(*rounds, strict=True)
    for what, share in (("median", 0.5), ("95th percentile", 0.95)):
        these, those = ([percentile(took, share) for took in all] for all in (mine, bare))
        named = f"{kind}: {what} of {len(mine[0])}, beside a bare requests.post"
        yield compared(LATENCY, named, these, those, "ms")


def _gap(interval_ms: int, rounds: Sequence[Sequence[float]], share: float) -> Row:
    """A percentile of the gaps in each round, beside the stagger."""
    these = [percentile(gaps, share) for gaps in rounds]
    what = f"{interval_ms} ms, {len(rounds[0])} gaps, {share:.0%} are shorter"
    return compared(GAPS, what, these, [interval_ms] * len(these), "ms")
