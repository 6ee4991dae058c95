"""The duties of worker processes, done in one thread as its clock comes to them."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable, Sequence
from copy import copy
from functools import partial
from typing import Final

from callbacks.batcher.shards import Shards
from callbacks.delivery.callback import Sender
from callbacks.policy.flush import Flush, decide_flush
from callbacks.testing.clock import Clock
from callbacks.units import ms
from callbacks.worker.attempt import send_once
from callbacks.worker.duties import dispatch_once, flush_once, notify_once, tick_once
from callbacks.worker.places import Places

#: A pass of the regular duties takes chance as an argument; here all runs are alike.
_CHANCE: Final = 0.5
#: Deaths are told of a second later.
_DEATHS_S: Final = 1.1
#: What is accepted ends by `CALLBACKS_MAX_AGE`; the rest is for whatever was in flight then.
_AFTER_MAX_AGE_S: Final = 3_600.0

Wake = Callable[["Workers"], None]


class Wakeups:
    """The messages for the workers, in the order of their times; see `duties.Messages`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.shard: int | None = None
        self._lock = threading.Lock()  # an application's own threads may enqueue
        self._order = itertools.count()
        self._waiting: list[tuple[int, int, Wake]] = []

    def of(self, shard: int | None) -> Wakeups:
        """Return those of one of several shards, which wait with all others."""
        its = copy(self)
        its.shard = shard
        return its

    def batch(self, claimed: Sequence[tuple[str, str, int]]) -> None:
        """Wake `send_single_callback` for each (id, token, delay_ms) after its delay."""
        for id, token, delay_ms in claimed:
            self._add(delay_ms, partial(_send, id=id, token=token))

    def trigger(self, delay_ms: int) -> None:
        """Wake `trigger_batch_send` after `delay_ms`."""
        self._add(delay_ms, partial(_dispatch, shard=self.shard))

    def check(self, delay_ms: int) -> None:
        """Wake `check_and_flush` after `delay_ms`."""
        self._add(delay_ms, partial(_flush, shard=self.shard))

    def _add(self, delay_ms: int, wake: Wake) -> None:
        with self._lock:
            entry = (self._clock.now_ms + max(0, delay_ms), next(self._order), wake)
            heapq.heappush(self._waiting, entry)

    @property
    def next_ms(self) -> int | None:
        """When the first one is due."""
        with self._lock:
            return self._waiting[0][0] if self._waiting else None

    def pop(self) -> Wake | None:
        """Take the first one if it is due."""
        with self._lock:
            if not self._waiting or self._waiting[0][0] > self._clock.now_ms:
                return None
            return heapq.heappop(self._waiting)[2]


class Workers:
    """All worker processes at once: takes the wake-ups in turn, and ticks before time passes."""

    def __init__(
        self,
        batcher: Shards,
        wakeups: Wakeups,
        sender: Sender,
        clock: Clock,
        tell: Callable[[str, str], object] | None,
    ) -> None:
        self.batcher, self.wakeups, self.sender, self.clock = batcher, wakeups, sender, clock
        self.places = Places()
        self._tell = tell

    def run(self, within: float | None) -> None:
        """Work until nothing is left that time alone would send, or for so many seconds.

        If the time is given, it has passed afterwards.
        """
        settings = self.batcher.settings
        limit = settings.max_age + _AFTER_MAX_AGE_S if within is None else within
        until_ms = self.clock.now_ms + ms(limit)
        self._notify()  # deaths are told of from here on
        while (at_ms := self._next_ms()) is not None and at_ms <= until_ms:
            self.clock.move_to(at_ms)
            if wake := self.wakeups.pop():
                wake(self)
        if within is not None:
            self.clock.move_to(until_ms)
            self._tick()
        if self._tell:
            self.clock.advance(_DEATHS_S)
            self._notify()

    def _next_ms(self) -> int | None:
        """When to go on; None if nothing will happen any more."""
        at_ms, interval_ms = self.wakeups.next_ms, ms(self.batcher.settings.check_interval)
        if at_ms is not None and at_ms <= self.clock.now_ms + interval_ms:
            return at_ms
        self._tick()
        times = [self.wakeups.next_ms, self._look_again_ms(interval_ms)]
        return min((at for at in times if at is not None), default=None)

    def _look_again_ms(self, interval_ms: int) -> int | None:
        """When the ticker would next find something to do."""
        settings, look = self.batcher.settings, self.batcher.look()
        decision = decide_flush(
            look, batch_size=settings.batch_size, max_delay_ms=ms(settings.max_delay)
        )
        forgotten = look.processing and self.wakeups.next_ms is None
        if isinstance(decision, Flush) or forgotten:
            return look.now_ms + interval_ms
        return None if decision.ms is None else look.now_ms + max(1, decision.ms)

    def _tick(self) -> None:
        for one in self.batcher.shards:
            tick_once(one, self.wakeups.of(one.shard), chance=_CHANCE)
        self._notify()

    def _notify(self) -> None:
        if self._tell:
            for one in self.batcher.shards:
                notify_once(one, self._tell)


# What the actors do


def _send(workers: Workers, *, id: str, token: str) -> None:
    one = workers.batcher.of_token(token)
    sent = send_once(
        one,
        workers.wakeups.of(one.shard),
        workers.sender,
        id,
        token,
        places=workers.places,
        timer=workers.clock,
    )
    if sent.retry_ms is not None:
        workers.wakeups.batch([(id, token, sent.retry_ms)])


def _dispatch(workers: Workers, *, shard: int | None) -> None:
    for one in workers.batcher.chosen(shard):
        dispatch_once(one, workers.wakeups.of(one.shard))


def _flush(workers: Workers, *, shard: int | None) -> None:
    for one in workers.batcher.chosen(shard):
        flush_once(one, workers.wakeups.of(one.shard))
