"""The whole: shards, workers, tickers, producers, and what goes wrong when."""

from __future__ import annotations

import gc
import itertools
import random
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import redis

from callbacks.batcher.pacer import Pacer
from callbacks.batcher.routes import shard_of
from callbacks.batcher.shards import Word
from callbacks.batcher.store import CRASH_SPREAD_MS, ENQUEUE_STEP
from callbacks.model import Signal
from callbacks.settings import Settings
from callbacks.units import ms
from callbacks.worker import duties
from callbacks.worker.rounds import Rounds, WorkerPlaces
from scripts.simulation.costs import HOME, Costs
from scripts.simulation.events import Loop
from scripts.simulation.figures import Figures
from scripts.simulation.home import Home
from scripts.simulation.receivers import Receiver
from scripts.simulation.records import Callback, Destination
from scripts.simulation.shard import Shard
from scripts.simulation.workers import Process, Workers

#: A producer whose enqueue failed tries again after so long.
_RETRY_MS = 1_000
#: A ticker visits one shard after the other, each for so long.
_VISIT_MS = 5
#: A process's word of its places counts for so many check intervals, at least so long.
_WORD_MS = 10_000
_WORD_INTERVALS = 4


@dataclass(frozen=True, slots=True)
class Size:
    """How large the system is."""

    workers: int
    threads: int
    crash_spread_ms: tuple[int, int] = CRASH_SPREAD_MS


class Messages:
    """`duties.Messages` of one shard, to the workers' queue."""

    def __init__(self, system: System, shard: Shard) -> None:
        as_batcher: Any = shard
        self._system, self._shard = system, as_batcher

    def batch(self, claimed: Sequence[tuple[Any, Any, int]]) -> None:
        self._system.costs.call("message", self._system.broker, len(claimed))
        for callback, token, delay_ms in claimed:
            self._system.workers.put((self._shard, callback, token), delay_ms)

    def trigger(self, delay_ms: int) -> None:
        self._system.act(partial(duties.dispatch_once, self._shard, self), delay_ms)

    def check(self, delay_ms: int) -> None:
        self._system.act(partial(duties.flush_once, self._shard, self), delay_ms)

    def of(self, shard: int | None) -> Messages:
        return self


@dataclass(slots=True)
class Broker:
    """Where Dramatiq's messages are: with what belongs to no shard."""

    is_away: bool = False
    counted_as: int = HOME


class System:
    """One system in virtual time."""

    def __init__(self, settings: Settings, size: Size, seed: int) -> None:
        self.settings, self.size = settings, size
        self.loop, self.chance = Loop(), random.Random(seed)
        self.figures, self.costs = Figures(self.loop), Costs(self.loop)
        self.broker = Broker()
        self.retry_delays = settings.retry_delays
        count = settings.shards
        self.shards = [
            Shard(
                settings,
                self.loop,
                self.costs,
                number if count > 1 else None,
                crash_spread_ms=size.crash_spread_ms,
            )
            for number in range(count)
        ]
        self.count = count
        self.home = Home(settings, self.loop, self.costs)
        if count > 1 and settings.send_interval:
            pacer = Pacer(self.home, self.loop.monotonic)  # type: ignore[arg-type]
            for shard in self.shards:
                shard.pacer = pacer
        self.messages = [Messages(self, shard) for shard in self.shards]
        self.workers = Workers(self, size.workers, size.threads, settings.unproven_share)
        self._rounds: dict[int, Rounds] = {}
        self._words: dict[int, tuple[int, int, int]] = {}
        self._elected_until = 0
        self._numbers = 0
        for process in self.workers.processes:
            self.loop.at(int(self.chance.uniform(0, 1_000)), self._tick, process)
        self.loop.at(1_000, self._sample)

    # Messages

    def act(self, do: partial[Any], delay_ms: int) -> None:
        """Send a message that makes a worker do this; it is lost if the shard is away then."""
        self.costs.call("message", self.broker, 1)
        self.workers.put(partial(_unless_away, do), delay_ms)

    def _messages_of(self, shard: Shard) -> Messages:
        return self.messages[shard.shard or 0]

    def send_trigger(self, shard: Shard, wait_ms: int | None) -> None:
        """Send the trigger that a verb asked for."""
        if wait_ms is not None:
            self._messages_of(shard).trigger(wait_ms)

    def send_wake(self, shard: Shard, callback: Callback, token: int, wait_ms: int) -> None:
        """Wake a callback after a while."""
        self._messages_of(shard).batch([(callback, token, wait_ms)])

    # Producers

    def destination(
        self, number: int, name: str, receiver: Receiver, *, proven: bool
    ) -> Destination:
        """A destination, in the shard that the package gives it to."""
        # Past its cache, which is too small for a million names that come once.
        shard = self.shards[shard_of.__wrapped__(name, self.count)]
        return Destination(number, receiver, shard, ok=proven)

    def enqueue(self, destinations: Iterable[Destination]) -> None:
        """Accept a callback for each; where a shard is away, its producers try again."""
        found: dict[Shard, list[Callback]] = {}
        now = self.loop.now
        for destination in destinations:
            self._numbers += 1
            callback = Callback(self._numbers, destination, now)
            found.setdefault(destination.shard, []).append(callback)
        for shard, callbacks in found.items():
            for start in range(0, len(callbacks), ENQUEUE_STEP):
                self._store(shard, callbacks[start : start + ENQUEUE_STEP])

    def _store(self, shard: Shard, callbacks: list[Callback]) -> None:
        try:
            signals = shard.enqueue(callbacks)
        except redis.ConnectionError:
            self.figures.refused += len(callbacks)
            self.loop.after(_RETRY_MS, self._store, shard, callbacks)
            return
        for callback in callbacks:
            self.figures.accept(callback)
        messages = self._messages_of(shard)
        for signal, wait_ms in signals:
            if signal is Signal.TRIGGER:
                messages.trigger(0)
            else:
                messages.check(wait_ms)

    # Tickers

    def _tick(self, process: Process) -> None:
        """A process's ticker: the one that is elected visits the shards."""
        if not process.alive:
            return
        interval_ms = ms(self.settings.check_interval)
        self.loop.after(interval_ms, self._tick, process)
        self.costs.call("tick", self.home)
        now = self.loop.now
        valid = max(_WORD_MS, _WORD_INTERVALS * interval_ms)
        self._words[process.number] = (process.threads, process.unproven_most, now + valid)
        if now < self._elected_until:
            return
        self._elected_until = now + interval_ms * 9 // 10
        words = [word for word in self._words.values() if word[2] > now]
        places = WorkerPlaces(sum(word[0] for word in words), sum(word[1] for word in words))
        self._visit(process, places)

    def _visit(self, process: Process, places: WorkerPlaces) -> None:
        rounds = self._rounds.setdefault(process.number, Rounds(self.loop.monotonic))
        if self.count == 1:
            (shard,) = self.shards
            shard.tick("", 0, threads=places.threads, places=places.unproven)
            self._duties(shard)
            return
        chosen = rounds.choose(
            [self._word(shard) for shard in self.shards], interval_s=self.settings.check_interval
        )
        everything: Any = self
        after_ms = itertools.count(0, _VISIT_MS)

        def visit(shard: Any) -> None:
            self.loop.after(next(after_ms), self._duties_unless_away, shard)

        with suppress(redis.ConnectionError):
            rounds.visit(everything, chosen, places, visit, beat=lambda: None)

    def _duties_unless_away(self, shard: Any) -> None:
        with suppress(redis.ConnectionError):
            self._duties(shard)

    @staticmethod
    def _word(shard: Shard) -> Word | None:
        if shard.is_away:
            return None
        live = shard.queued + len(shard.processing) > 0
        return Word(live, shard.last_batch, "1", full=False)

    def _duties(self, shard: Any) -> None:
        messages = self._messages_of(shard)
        duties.do_all(
            [
                lambda: duties.wake_once(shard, messages),
                lambda: duties.recover_once(shard, chance=self.chance.random()),
                lambda: duties.flush_once(shard, messages),
            ]
        )

    def _sample(self) -> None:
        if self.loop.now % 1_000 == 0:
            self.figures.sample(self.workers)
        self.figures.look_apart()
        self.loop.after(100, self._sample)

    # A run

    def run(self, until_ms: int) -> Figures:
        """Run up to a time, without Python's collector: what ends here is in no circle."""
        collects = gc.isenabled()
        gc.disable()
        try:
            self.loop.run(until_ms)
        finally:
            if collects:
                gc.enable()
        return self.figures

    @property
    def is_settled(self) -> bool:
        """Whether every callback has ended."""
        return all(shard.queued + len(shard.processing) == 0 for shard in self.shards)

    def totals(self) -> dict[str, int]:
        """The totals of all shards, with what waits."""
        names = ("accepted", "sent", "dead", "recovered", "stale")
        sums = {name: sum(shard.totals[name] for shard in self.shards) for name in names}
        sums["queued"] = sum(shard.queued for shard in self.shards)
        sums["processing"] = sum(len(shard.processing) for shard in self.shards)
        return sums


def _unless_away(do: partial[Any]) -> None:
    with suppress(redis.ConnectionError):
        do()
